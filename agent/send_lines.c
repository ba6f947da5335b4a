/* send_lines: see the header. */
#include "agent/send_lines.h"

#include "lib/base/ensure.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 256 * 1024, SILENCE_MS = 100, MEMBERS_MAX = 1024 };

static void fill_random(void *ctx, void *into, size_t len)
{
    (void)ctx;
    /* Draws of up to 256 bytes are never cut short; a pool's worth may be, by a signal. */
    for (size_t at = 0; at < len;) {
        ssize_t n = getrandom((char *)into + at, len - at, 0);
        ensure(n > 0 || errno == EINTR);
        at += n > 0 ? (size_t)n : 0;
    }
}

void send_source_init(struct send_source *s, char **files, int file_count, const char *type)
{
    static char *const standard_input[] = {(char *)"-", NULL};
    *s = (struct send_source){.files = files, .file_count = file_count, .type = type, .fd = -1};
    if (file_count == 0) {
        s->files = (char **)standard_input;
        s->file_count = 1;
    }
    uuid_source_init(&s->uuids, (struct entropy){.fill = fill_random});
    bytes_init(&s->in, SEND_LINE_BYTES_MAX + READ_BYTES);
    s->members = must_alloc(MEMBERS_MAX * sizeof *s->members);
    for (int i = 0; i < s->file_count; i++) {
        struct stat st;
        bool is_stdin = strcmp(s->files[i], "-") == 0;
        if ((is_stdin ? fstat(STDIN_FILENO, &st) : stat(s->files[i], &st)) != 0 || !S_ISREG(st.st_mode)) {
            s->bytes_total = 0;
            return;
        }
        s->bytes_total += (uint64_t)st.st_size;
    }
}

void send_source_deinit(struct send_source *s)
{
    if (s->fd > STDIN_FILENO)
        close(s->fd);
    bytes_deinit(&s->in);
    free(s->members);
}

void send_batch_init(struct send_batch *b)
{
    b->count = 0;
    bytes_init(&b->text, SEND_BATCH_BYTES + SEND_LINE_BYTES_MAX + 4096);
}

void send_batch_deinit(struct send_batch *b)
{
    bytes_deinit(&b->text);
}

/* --- one line to one event ---------------------------------------------------------------------------- */

static void refuse(struct send_source *s, const char *text)
{
    s->refused++;
    s->on_refused(s->ctx, s->name, s->number, text);
}

/* What a neutral event calls its own; anything else in an object without `type` makes the object data. */
static bool is_envelope(const struct json_member *members, size_t count)
{
    static const char *const names[] = {"id",   "source",      "specversion",     "subject",    "time",
                                        "data", "data_base64", "datacontenttype", "dataschema", "sampledrate"};
    for (size_t i = 0; i < count; i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof names / sizeof *names && !known; k++)
            known = json_key_is(&members[i].key, names[k]);
        if (!known)
            return false;
    }
    return true;
}

static enum err put_attribute(struct bytes *to, const char *name, struct span value)
{
    enum err err = bytes_printf(to, "\"%s\":", name);
    return err != OK ? err : json_append_string(to, value);
}

static void make_id(struct send_source *s, char id[UUID_TEXT + 1])
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct uuid uuid = uuid7_make(&s->uuids, (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
    uuid_format(&uuid, id);
}

/* Writes the line's event to `to`: as it is, with id and type put in front of its members, or wrapped as data. */
static enum err put_event(struct send_source *s, const struct json_value *value, size_t count, struct bytes *to)
{
    char id[UUID_TEXT + 1];
    bool object = value->type == JSON_OBJECT;
    bool add_type = s->type != NULL && (!object || json_find(s->members, count, "type") == NULL);
    bool wrap = add_type && (!object || !is_envelope(s->members, count));
    bool add_id = wrap || json_find(s->members, count, "id") == NULL;
    struct span rest = span_of(value->text.at + 1, value->text.len - 1); /* behind the opening brace */
    enum err err = OK;
    if (!add_id && !add_type)
        return bytes_append(to, value->text);
    err = bytes_append_byte(to, '{');
    if (err == OK && add_id) {
        make_id(s, id);
        err = put_attribute(to, "id", span_str(id));
    }
    if (err == OK && add_type) {
        err = add_id ? bytes_append_byte(to, ',') : OK;
        if (err == OK)
            err = put_attribute(to, "type", span_str(s->type));
    }
    if (err == OK && (wrap || count > 0))
        err = bytes_append_byte(to, ',');
    if (err != OK || !wrap)
        return err != OK ? err : bytes_append(to, rest);
    err = bytes_append(to, SPAN("\"data\":"));
    if (err == OK)
        err = bytes_append(to, value->text);
    return err != OK ? err : bytes_append_byte(to, '}');
}

static void take_line(struct send_source *s, struct send_batch *b, struct span line)
{
    struct json_value value;
    struct fault why;
    size_t count = 0, at = b->text.len;
    s->number++;
    if (s->number == 1 && span_starts(line, SPAN("\xef\xbb\xbf")))
        line = span_of(line.at + 3, line.len - 3);
    if (line.len > 0 && line.at[line.len - 1] == '\r')
        line.len--;
    line = span_trim(line);
    if (line.len == 0)
        return;
    enum err err = json_check_object(line, s->members, MEMBERS_MAX, &count, &value, &why);
    if (err != OK) {
        refuse(s, why.text);
    } else if (value.type != JSON_OBJECT && s->type == NULL) {
        refuse(s, "not a JSON object, and no --type to make it one's data");
    } else if (put_event(s, &value, count, &b->text) != OK || bytes_append_byte(&b->text, '\n') != OK) {
        b->text.len = at;
        refuse(s, "too large");
    } else {
        b->lines[b->count++] = (struct send_line){s->name, s->number, at, b->text.len - at - 1};
    }
}

/* --- lines from files --------------------------------------------------------------------------------- */

static enum err open_next(struct send_source *s, struct fault *why)
{
    const char *name = s->files[s->file_at];
    bool is_stdin = strcmp(name, "-") == 0;
    s->fd = is_stdin ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0)
        return fault_sys(why, errno, "open %s", name);
    s->name = is_stdin ? "standard input" : name;
    s->number = 0;
    s->at_end = false;
    return OK;
}

static void close_file(struct send_source *s)
{
    if (s->fd != STDIN_FILENO)
        close(s->fd);
    s->fd = -1;
    s->file_at++;
    bytes_clear(&s->in);
    s->in_at = s->in_seen = 0;
}

static enum err read_more(struct send_source *s, struct fault *why)
{
    bytes_consume(&s->in, s->in_at);
    s->in_seen -= s->in_at;
    s->in_at = 0;
    if (bytes_reserve(&s->in, READ_BYTES) != OK) {
        refuse(s, "the line is too long");
        return fault_set(why, ERR_TOO_BIG, "%s: line %llu is longer than %d bytes", s->name,
                         (unsigned long long)s->number + 1, SEND_LINE_BYTES_MAX);
    }
    ssize_t n = read(s->fd, s->in.at + s->in.len, READ_BYTES);
    if (n < 0)
        return errno == EINTR ? OK : fault_sys(why, errno, "read %s", s->name);
    s->at_end = n == 0;
    s->in.len += (size_t)n;
    s->bytes_read += (uint64_t)n;
    return OK;
}

/* The next line that lies whole in the buffer; at the end of a file also one without a line feed. */
static bool next_line(struct send_source *s, struct span *ret)
{
    const uint8_t *end = s->in.len > s->in_seen ? memchr(s->in.at + s->in_seen, '\n', s->in.len - s->in_seen) : NULL;
    if (end == NULL && !(s->at_end && s->in.len > s->in_at)) {
        s->in_seen = s->in.len;
        return false;
    }
    size_t stop = end != NULL ? (size_t)(end - s->in.at) : s->in.len;
    *ret = span_of(s->in.at + s->in_at, stop - s->in_at);
    s->in_at = s->in_seen = end != NULL ? stop + 1 : stop;
    return true;
}

static bool is_full(const struct send_batch *b)
{
    return b->count == SEND_BATCH_EVENTS || b->text.len >= SEND_BATCH_BYTES;
}

static bool is_silent(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, SILENCE_MS) == 0;
}

enum err send_source_fill(struct send_source *s, struct send_batch *b, struct fault *why)
{
    struct span line;
    bytes_clear(&b->text);
    b->count = 0;
    while (!is_full(b)) {
        if (s->fd < 0) {
            if (s->file_at == s->file_count)
                return OK;
            enum err err = open_next(s, why);
            if (err != OK)
                return err;
        }
        if (next_line(s, &line)) {
            take_line(s, b, line);
        } else if (s->at_end) {
            close_file(s);
        } else if (b->count > 0 && is_silent(s->fd)) {
            return OK;
        } else {
            enum err err = read_more(s, why);
            if (err != OK)
                return err;
        }
    }
    return OK;
}
