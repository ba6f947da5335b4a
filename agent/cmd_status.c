/* cmd_status: `penstock status`, what a running agent is doing, what is wrong first. One GET /status; the rates come
 * from a second look a moment later. */
#include "agent/cmd.h"
#include "agent/cmd_http.h"
#include "agent/exit.h"
#include "agent/json_pick.h"
#include "lib/config/config.h"

#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define RATE_MS 500
#define WATCH_MS 1000
#define LINE_BYTES_MAX 4096
#define PAGE_BYTES_MAX (1024 * 1024)
#define CELL 48
#define COLUMNS_MAX 12
#define ROWS_MAX 256

/* --- tables --------------------------------------------------------------------------------------------- */

struct table {
    unsigned columns, rows;
    const char *heads[COLUMNS_MAX];
    bool left[COLUMNS_MAX];
    char (*cells)[COLUMNS_MAX][CELL];
};

static void table_init(struct table *t, const char *const *heads, unsigned left)
{
    *t = (struct table){.cells = must_alloc(ROWS_MAX * sizeof *t->cells)};
    for (; heads[t->columns] != NULL; t->columns++) {
        t->heads[t->columns] = heads[t->columns];
        t->left[t->columns] = t->columns < left;
    }
}

/* How many columns a UTF-8 text takes, as far as ours do. */
static int width_of(const char *text)
{
    int n = 0;
    for (; *text != '\0'; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static void put_cell(struct bytes *out, const char *text, int width, bool left)
{
    int pad = width - width_of(text);
    (void)!bytes_printf(out, "%*s%s%*s  ", left ? 0 : pad, "", text, left ? pad : 0, "");
}

static void table_print(const struct table *t, struct bytes *out)
{
    for (int row = -1; row < (int)t->rows; row++) {
        for (unsigned c = 0; c < t->columns; c++) {
            int width = width_of(t->heads[c]);
            for (unsigned r = 0; r < t->rows; r++)
                width = width_of(t->cells[r][c]) > width ? width_of(t->cells[r][c]) : width;
            put_cell(out, row < 0 ? t->heads[c] : t->cells[row][c], width, t->left[c]);
        }
        while (out->len > 0 && out->at[out->len - 1] == ' ')
            out->len--;
        (void)!bytes_append(out, SPAN("\n"));
    }
}

/* --- values in words ------------------------------------------------------------------------------------ */

static void count_text(uint64_t n, char into[CELL])
{
    char digits[CELL];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), at = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            into[at++] = ',';
        into[at++] = digits[i];
    }
    into[at] = '\0';
}

static void bytes_text(uint64_t n, char into[CELL])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)n;
    unsigned u = 0;
    for (; v >= 1024 && u < 4; u++)
        v /= 1024;
    (void)snprintf(into, CELL, u == 0 || v >= 100 ? "%.0f %s" : "%.1f %s", v, units[u]);
}

static void time_text(double s, char into[CELL])
{
    if (s < 1)
        (void)snprintf(into, CELL, "%.0f ms", s * 1000);
    else if (s < 120)
        (void)snprintf(into, CELL, "%.0f s", s);
    else if (s < 7200)
        (void)snprintf(into, CELL, "%.0f min", s / 60);
    else if (s < 172800)
        (void)snprintf(into, CELL, "%.1f h", s / 3600);
    else
        (void)snprintf(into, CELL, "%.1f days", s / 86400);
}

static void ago_text(double s, char into[CELL])
{
    char time[CELL];
    time_text(s, time);
    (void)snprintf(into, CELL, "%.40s ago", time);
}

static void rate_text(uint64_t now, uint64_t before, double seconds, char into[CELL])
{
    if (seconds <= 0 || now < before)
        (void)snprintf(into, CELL, "-");
    else
        (void)snprintf(into, CELL, "%.0f/s", (double)(now - before) / seconds);
}

/* All numbers of an object together. */
static uint64_t sum(struct span object)
{
    struct span key, value;
    uint64_t total = 0, n;
    for (size_t i = 0; (value = pick_member(object, i, &key)).at != NULL; i++)
        total += span_u64(value, &n) ? n : 0;
    return total;
}

/* "malformed 3, full 1"; "" when all are 0. */
static void reasons_text(struct span object, char *into, size_t size)
{
    struct span key, value;
    uint64_t n;
    into[0] = '\0';
    for (size_t i = 0; (value = pick_member(object, i, &key)).at != NULL; i++) {
        size_t at = strlen(into);
        if (span_u64(value, &n) && n > 0 && at + 1 < size)
            (void)snprintf(into + at, size - at, "%s%.*s %llu", at > 0 ? ", " : "", SPAN_FMT(key), (unsigned long long)n);
    }
}

static void line(struct bytes *out, const char *before, const char *text)
{
    char clean[LINE_BYTES_MAX];
    (void)snprintf(clean, sizeof clean, "%s", text);
    pick_clean(clean);
    (void)!bytes_printf(out, "%s%s\n", before, clean);
}

/* The element of the same name in the look before. */
static struct span same_in(struct span array, const char *name)
{
    char other[CELL * 2];
    struct span element;
    for (size_t i = 0; (element = pick_next(array, &i)).at != NULL;)
        if (pick_string(element, "name", other, sizeof other) && strcmp(name, other) == 0)
            return element;
    return (struct span){0};
}

/* --- the page ------------------------------------------------------------------------------------------- */

static void put_agent(struct bytes *out, struct span status)
{
    char name[256], phase[CELL], version[CELL], up[CELL];
    (void)pick_string(status, "agent.name", name, sizeof name);
    (void)pick_string(status, "agent.phase", phase, sizeof phase);
    (void)pick_string(status, "agent.version", version, sizeof version);
    time_text(pick_double(status, "agent.uptime_seconds"), up);
    (void)!bytes_printf(out, "penstock %s on %s: %s for %s, pid %llu, %s\n", version, name, phase, up,
                        (unsigned long long)pick_u64(status, "agent.pid"),
                        pick_true(status, "ready") ? "ready" : "NOT READY");
}

static void put_problems(struct bytes *out, struct span status)
{
    struct span problems = pick(status, "problems"), element;
    char text[1100];
    for (size_t i = 0; (element = pick_next(problems, &i)).at != NULL;) {
        struct bytes wrapped; /* pick_string() looks into objects */
        bytes_init(&wrapped, 8192);
        (void)!bytes_printf(&wrapped, "{\"text\":%.*s}", SPAN_FMT(element));
        if (pick_string(bytes_span(&wrapped), "text", text, sizeof text))
            line(out, "  ! ", text);
        bytes_deinit(&wrapped);
    }
}

static void put_output_row(struct table *t, struct span o, struct span before, double seconds)
{
    char(*cell)[CELL] = t->cells[t->rows++];
    (void)pick_string(o, "name", cell[0], CELL);
    (void)pick_string(o, "type", cell[1], CELL);
    (void)pick_string(o, "state", cell[2], CELL);
    count_text(pick_u64(o, "pending"), cell[3]);
    if (pick_u64(o, "pending") > 0)
        time_text(pick_double(o, "spool.oldest_seconds"), cell[4]);
    else
        (void)snprintf(cell[4], CELL, "-");
    rate_text(pick_u64(o, "accepted"), pick_u64(before, "accepted"), before.at == NULL ? 0 : seconds, cell[5]);
    rate_text(pick_u64(o, "delivered"), pick_u64(before, "delivered"), before.at == NULL ? 0 : seconds, cell[6]);
    count_text(pick_u64(o, "delivered"), cell[7]);
    count_text(pick_u64(o, "dead"), cell[8]);
    count_text(sum(pick(o, "dropped")), cell[9]);
    bytes_text(pick_u64(o, "spool.bytes"), cell[10]);
}

/* What a table has no room for: errors, retries, reasons. */
static void put_output_notes(struct bytes *out, struct span o)
{
    char text[1000], more[1200], when[CELL], name[CELL], state[CELL], code[CELL] = "";
    (void)pick_string(o, "name", name, sizeof name);
    (void)pick_string(o, "state", state, sizeof state);
    double next = pick_double(o, "next_try_seconds");
    if (pick_string(o, "last_error.text", text, sizeof text) && strcmp(state, "ok") != 0) {
        time_text(next, when);
        if (pick_u64(o, "last_error.status") > 0)
            (void)snprintf(code, sizeof code, "%llu ", (unsigned long long)pick_u64(o, "last_error.status"));
        (void)snprintf(more, sizeof more, "%s: last error: %s%s%s%s", name, code, text, next > 0 ? "; next try in " : "",
                       next > 0 ? when : "");
        line(out, "    ", more);
    }
    reasons_text(pick(o, "dropped"), text, sizeof text);
    if (text[0] != '\0') {
        (void)snprintf(more, sizeof more, "%s: dropped: %s", name, text);
        line(out, "    ", more);
    }
    if (pick_u64(o, "dead") > 0) {
        reasons_text(pick(o, "dead_total"), text, sizeof text);
        (void)snprintf(more, sizeof more, "%s: dead letters so far: %s", name, text);
        line(out, "    ", more);
    }
}

static void put_outputs(struct bytes *out, struct span status, struct span before, double seconds)
{
    static const char *const heads[] = {"OUTPUT", "TYPE",      "STATE", "PENDING", "OLDEST", "IN", "OUT",
                                        "DELIVERED", "DEAD", "DROPPED", "SPOOL", NULL};
    struct span outputs = pick(status, "outputs"), element;
    struct table t;
    char name[CELL];
    table_init(&t, heads, 3);
    for (size_t i = 0; (element = pick_next(outputs, &i)).at != NULL && t.rows < ROWS_MAX;) {
        (void)pick_string(element, "name", name, sizeof name);
        put_output_row(&t, element, same_in(pick(before, "outputs"), name), seconds);
    }
    (void)!bytes_append(out, SPAN("\n"));
    table_print(&t, out);
    free(t.cells);
    for (size_t i = 0; (element = pick_next(outputs, &i)).at != NULL;)
        put_output_notes(out, element);
}

/* Among many senders: who sends most. */
static void put_loudest(struct bytes *out, struct span input)
{
    struct span loudest = pick(input, "loudest"), element;
    char text[700], who[100], bytes[CELL];
    size_t senders = 0;
    for (size_t i = 0; pick_next(loudest, &i).at != NULL;)
        senders++;
    if (senders < 2)
        return;
    (void)pick_string(input, "name", text, CELL * 2);
    size_t at = strlen(text);
    at += (size_t)snprintf(text + at, sizeof text - at, ": loudest senders:");
    for (size_t i = 0, n = 0; (element = pick_next(loudest, &i)).at != NULL && n < 3; n++) {
        (void)pick_string(element, "who", who, sizeof who);
        bytes_text(pick_u64(element, "bytes"), bytes);
        at += (size_t)snprintf(text + at, sizeof text - at, "%s %s, %s", n > 0 ? ";" : "", who, bytes);
    }
    line(out, "    ", text);
}

static void put_inputs(struct bytes *out, struct span status, struct span before, double seconds)
{
    static const char *const heads[] = {"INPUT", "TYPE", "LISTEN", "SENDERS", "IN",
                                        "RECEIVED", "REJECTED", "BYTES", "LAST", NULL};
    struct span inputs = pick(status, "inputs"), element;
    struct table t;
    char text[600], more[700];
    table_init(&t, heads, 3);
    for (size_t i = 0; (element = pick_next(inputs, &i)).at != NULL && t.rows < ROWS_MAX;) {
        char(*cell)[CELL] = t.cells[t.rows++];
        (void)pick_string(element, "name", cell[0], CELL);
        (void)pick_string(element, "type", cell[1], CELL);
        (void)pick_string(element, "listen", cell[2], CELL);
        count_text(pick_u64(element, "connections"), cell[3]);
        struct span old = same_in(pick(before, "inputs"), cell[0]);
        rate_text(pick_u64(element, "received"), pick_u64(old, "received"), old.at == NULL ? 0 : seconds, cell[4]);
        count_text(pick_u64(element, "received"), cell[5]);
        count_text(sum(pick(element, "rejected")), cell[6]);
        bytes_text(pick_u64(element, "bytes_in"), cell[7]);
        if (pick_u64(element, "received") == 0)
            (void)snprintf(cell[8], CELL, "never");
        else
            ago_text(pick_double(element, "last_received_seconds"), cell[8]);
    }
    (void)!bytes_append(out, SPAN("\n"));
    table_print(&t, out);
    for (size_t i = 0; (element = pick_next(inputs, &i)).at != NULL;)
        put_loudest(out, element);
    for (size_t i = 0; (element = pick_next(inputs, &i)).at != NULL;) {
        reasons_text(pick(element, "rejected"), text, sizeof text);
        if (text[0] == '\0')
            continue;
        (void)pick_string(element, "name", more, CELL);
        size_t at = strlen(more);
        (void)snprintf(more + at, sizeof more - at, ": rejected: %s", text);
        line(out, "    ", more);
    }
    free(t.cells);
}

static void put_page(struct bytes *out, struct span status, struct span before)
{
    double seconds = pick_double(status, "agent.uptime_seconds") - pick_double(before, "agent.uptime_seconds");
    put_agent(out, status);
    put_problems(out, status);
    put_outputs(out, status, before, before.at == NULL ? 0 : seconds);
    put_inputs(out, status, before, before.at == NULL ? 0 : seconds);
}

/* --- the command ---------------------------------------------------------------------------------------- */

struct options {
    struct cmd_http_where where;
    bool json, watch;
};

static int look(struct cmd_http *c, struct bytes *into)
{
    struct fault why;
    if (cmd_http_ask(c, "GET", "/status", (struct span){0}, &why) != OK)
        return cmd_http_unreachable("status", c, &why);
    if (c->http.status != 200)
        return cmd_http_refused("status", c);
    bytes_clear(into);
    if (bytes_append(into, bytes_span(&c->http.body)) != OK)
        return EXIT_INTERNAL;
    return 0;
}

/* Redraws without blinking: home, each line cleared to its end as it is written, then what is below. */
static void redraw(const struct bytes *page)
{
    struct winsize size = {0};
    unsigned rows = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1 ? size.ws_row - 1u : 1000;
    (void)fputs("\033[H", stdout);
    for (size_t at = 0; at < page->len && rows > 0; rows--) {
        const uint8_t *end = memchr(page->at + at, '\n', page->len - at);
        size_t len = end == NULL ? page->len - at : (size_t)(end - page->at) - at;
        (void)fwrite(page->at + at, 1, len, stdout);
        (void)fputs("\033[K\n", stdout);
        at += len + 1;
    }
    (void)fputs("\033[J", stdout);
}

static int show(struct cmd_http *c, const struct options *o)
{
    struct bytes before, now, page;
    bool terminal = isatty(STDOUT_FILENO) != 0;
    bytes_init(&before, 64u << 20);
    bytes_init(&now, 64u << 20);
    bytes_init(&page, PAGE_BYTES_MAX);
    int code = look(c, &now);
    if (o->watch && terminal && !o->json)
        (void)fputs("\033[2J", stdout);
    while (code == 0) {
        if (!o->json) {
            struct bytes swap = before;
            before = now;
            now = swap;
            (void)poll(NULL, 0, o->watch ? WATCH_MS : RATE_MS);
            code = look(c, &now);
            if (code != 0)
                break;
            bytes_clear(&page);
            put_page(&page, bytes_span(&now), bytes_span(&before));
            if (o->watch && terminal)
                redraw(&page);
            else
                (void)fwrite(page.at, 1, page.len, stdout);
        } else {
            (void)fwrite(now.at, 1, now.len, stdout);
        }
        if (fflush(stdout) != 0 || !o->watch)
            break;
        if (o->json) {
            (void)poll(NULL, 0, WATCH_MS);
            code = look(c, &now);
        }
    }
    bytes_deinit(&before);
    bytes_deinit(&now);
    bytes_deinit(&page);
    return command_printed(&cmd_status, code);
}

static int run(int argc, char **argv)
{
    struct options o = {0};
    const char *value;
    int key;
    while ((key = command_next(&cmd_status, argc, argv, &value)) >= 0) {
        o.json |= key == 'j';
        o.watch |= key == 'w';
        (void)cmd_http_option(&o.where, key, value);
    }
    if (key != COMMAND_END)
        return command_left(key);
    if (optind < argc)
        return command_mistake(&cmd_status, "unexpected '%s'", argv[optind]);
    struct cmd_http c;
    struct config *config;
    int code = cmd_http_find(&cmd_status, &c, &o.where, &config);
    if (code == 0)
        code = show(&c, &o);
    cmd_http_deinit(&c);
    config_free(config);
    return code;
}

const struct command cmd_status = {
    .name = "status",
    .run = run,
    .brief = "what a running agent is doing",
    .usage = (const char *const[]){"status [--admin URL | -c FILE] [--json] [--watch]", NULL},
    .about = "What a running agent is doing: per input and output counts, rates, lag, state and the last error in the "
             "upstream's words. What is wrong comes first.",
    .options = (const struct command_option[]){CMD_HTTP_OPTIONS,
                                               {'j', "json", NULL, NULL, "what the agent says, as JSON; with --watch a line per look"},
                                               {'w', "watch", NULL, NULL, "again every second, in place, until interrupted"},
                                               {.name = NULL}},
    .more = CMD_HTTP_MORE,
    .exits = "0, 64 wrong command line, 69 the agent cannot be reached, 74 standard output takes no more, 77 it refuses the token, 78 faulty configuration.",
    .examples = (const struct command_example[]){
        {"penstock status", "once"},
        {"penstock status -c /etc/penstock/penstock.yaml --watch", "the agent of this configuration, every second"},
        {"penstock status --json | jq '.outputs[] | {name, state, pending}'", "for a script"},
        {.line = NULL}},
};
