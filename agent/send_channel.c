/* send_channel: see the header. Both ways carry NDJSON; HTTP answers each request, the Unix stream answers a line that
 * asks for it, with counts over the whole connection. A connection that breaks is opened again by the next post. */
#include "agent/send_channel.h"

#include "agent/dial.h"
#include "agent/dial_tls.h"
#include "agent/tls_files.h"
#include "lib/config/config.h"

#include <errno.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_SECONDS = 60, ANSWER_LINE_BYTES_MAX = 1 << 20 };

enum err send_channel_init(struct send_channel *c, const char *url, const char *socket_path, const char *token,
                           const struct config_tls_client *tls, struct fault *why)
{
    *c = (struct send_channel){.url_text = url, .socket_path = socket_path, .token = token, .fd = -1};
    bytes_init(&c->target, URL_BYTES_MAX + 16);
    bytes_init(&c->authority, 1024);
    bytes_init(&c->head, 64 << 10);
    bytes_init(&c->in, ANSWER_LINE_BYTES_MAX);
    http_client_init(&c->http, HTTP_CLIENT_BODY_BYTES_MAX);
    if (socket_path != NULL)
        return strlen(socket_path) < sizeof((struct sockaddr_un *)0)->sun_path
                   ? OK
                   : fault_set(why, ERR_CONFIG, "the socket's path is too long");
    enum err err = url_parse(span_str(url), &c->url, why);
    if (err != OK)
        return err;
    if (c->url.tls)
        err = tls_client_load(tls, &c->tls, why);
    if (err != OK)
        return err;
    struct span path = c->url.path;
    if (path.len > 0 && path.at[path.len - 1] == '/')
        path.len--;
    (void)!bytes_append(&c->target, path);
    (void)!bytes_append(&c->target, SPAN("/events"));
    return url_write_authority(&c->authority, &c->url, false);
}

static void disconnect(struct send_channel *c)
{
    if (c->session != NULL)
        tls_session_free(c->session);
    c->session = NULL;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    bytes_clear(&c->in);
    c->accepted_before = c->refused_before = 0;
}

void send_channel_deinit(struct send_channel *c)
{
    disconnect(c);
    tls_context_free(c->tls);
    http_client_deinit(&c->http);
    bytes_deinit(&c->target);
    bytes_deinit(&c->authority);
    bytes_deinit(&c->head);
    bytes_deinit(&c->in);
}

/* --- connecting --------------------------------------------------------------------------------------- */

static bool ensure_connected(struct send_channel *c, char *text, size_t text_max)
{
    if (c->fd >= 0)
        return true;
    if (c->socket_path != NULL) {
        c->fd = dial_unix(c->socket_path);
        if (c->fd < 0)
            snprintf(text, text_max, "%s: %s", c->socket_path, strerror(errno));
    } else {
        c->fd = dial_url(&c->url, text, text_max);
    }
    if (c->fd < 0 || !dial_timeout(c->fd, ANSWER_SECONDS))
        return false;
    if (c->tls != NULL && (c->session = dial_tls(c->fd, c->tls, c->url.host, text, text_max)) == NULL) {
        disconnect(c);
        return false;
    }
    c->connected_once = true;
    return true;
}

static bool write_all(struct send_channel *c, struct span data)
{
    return c->session != NULL ? dial_tls_write(c->session, c->fd, data) : dial_write(c->fd, data);
}

static struct span text_of(const struct send_batch *b, unsigned first, unsigned count)
{
    const struct send_line *last = &b->lines[first + count - 1];
    return span_of(b->text.at + b->lines[first].at, last->at + last->len + 1 - b->lines[first].at);
}

static enum send_outcome broke(struct send_channel *c, struct send_result *ret, const char *doing)
{
    int sys = errno;
    snprintf(ret->text, sizeof ret->text, "%s: %s", doing,
             sys == EAGAIN ? "nothing for a minute" : sys == 0 ? "the agent closed the connection" : strerror(sys));
    disconnect(c);
    return SEND_UNKNOWN;
}

/* --- HTTP --------------------------------------------------------------------------------------------- */

static bool write_request(struct send_channel *c, struct span body)
{
    char bearer[4200];
    struct http_field fields[] = {{SPAN("Content-Type"), SPAN("application/x-ndjson")},
                                  {SPAN("User-Agent"), SPAN("penstock-send/" PENSTOCK_VERSION)},
                                  {SPAN("Authorization"), {0}}};
    struct http_request_head head = {.method = SPAN("POST"),
                                     .target = bytes_span(&c->target),
                                     .authority = bytes_span(&c->authority),
                                     .fields = fields,
                                     .field_count = 2,
                                     .has_body = true,
                                     .content_length = body.len};
    if (c->token != NULL) {
        snprintf(bearer, sizeof bearer, "Bearer %s", c->token);
        fields[2].value = span_str(bearer);
        head.field_count = 3;
    }
    bytes_clear(&c->head);
    errno = EINVAL;
    return http_request_head_write(&c->head, &head) == OK && write_all(c, bytes_span(&c->head)) && write_all(c, body);
}

static bool read_answer(struct send_channel *c)
{
    uint8_t buffer[16384];
    while (c->http.state == HTTP_CLIENT_READING) {
        ssize_t n = c->session != NULL ? dial_tls_read(c->session, c->fd, buffer, sizeof buffer)
                                       : dial_read(c->fd, buffer, sizeof buffer);
        if (n < 0)
            return false;
        if (n == 0)
            http_client_eof(&c->http, true);
        else
            (void)http_client_feed(&c->http, span_of(buffer, (size_t)n));
    }
    errno = 0;
    return c->http.state == HTTP_CLIENT_COMPLETE;
}

/* One element of "rejected": tells of it. */
static void take_rejection(struct send_channel *c, const struct send_batch *b, unsigned first, unsigned count,
                           const struct json_member *members, size_t member_count)
{
    const struct json_member *index = json_find(members, member_count, "index");
    const struct json_member *error = json_find(members, member_count, "error");
    uint64_t i;
    if (index == NULL || index->value.type != JSON_NUMBER || !json_uint64(index->value.text, &i) || i >= count)
        return;
    c->on_refused(c->ctx, &b->lines[first + i],
                  error != NULL && error->value.type == JSON_STRING ? json_raw_string(&error->value) : SPAN("refused"));
}

/* {"accepted":N,"rejected":[{"index":i,"error":"…"}]}: false when it is not that. */
static bool take_counts(struct send_channel *c, const struct send_batch *b, unsigned first, unsigned count,
                        struct send_result *ret)
{
    struct json_reader r;
    struct json_key key;
    struct json_value value;
    struct json_member members[8];
    size_t member_count;
    bool found = false;
    json_reader_init(&r, bytes_span(&c->http.body));
    enum err err = json_enter_object(&r);
    while (err == OK && (err = json_next_member(&r, &key)) == OK) {
        if (json_key_is(&key, "rejected") && json_enter_array(&r) == OK) {
            while (json_next_element(&r) == OK && json_read_object(&r, members, 8, &member_count, &value) == OK) {
                ret->refused++;
                take_rejection(c, b, first, count, members, member_count);
            }
            continue;
        }
        err = json_read_value(&r, &value);
        if (err == OK && json_key_is(&key, "accepted") && value.type == JSON_NUMBER)
            found = json_uint64(value.text, &ret->accepted);
    }
    return found && err == ERR_NOT_FOUND;
}

/* The message in {"error":{"message":"…"}}, else the beginning of the body. */
static void take_message(struct send_channel *c, struct send_result *ret)
{
    struct json_value value;
    struct json_member outer[8], inner[8];
    size_t outer_count = 0, inner_count = 0;
    const struct json_member *m;
    struct span body = bytes_span(&c->http.body);
    struct span text = span_of(body.at, body.len < 200 ? body.len : 200);
    if (json_check_object(body, outer, 8, &outer_count, &value, NULL) == OK && (m = json_find(outer, outer_count, "error")) != NULL &&
        json_check_object(m->value.text, inner, 8, &inner_count, &value, NULL) == OK &&
        (m = json_find(inner, inner_count, "message")) != NULL && m->value.type == JSON_STRING)
        text = json_raw_string(&m->value);
    snprintf(ret->text, sizeof ret->text, "%u %.*s", c->http.status, SPAN_FMT(text));
}

static void take_retry_after(struct send_channel *c, struct send_result *ret)
{
    struct span value = http_client_header(&c->http, SPAN("retry-after"));
    uint64_t seconds;
    if (value.at != NULL && span_u64(value, &seconds) && seconds < 3600)
        ret->wait_ms = seconds * 1000;
}

static enum send_outcome judge(struct send_channel *c, const struct send_batch *b, unsigned first, unsigned count,
                               struct send_result *ret)
{
    unsigned status = c->http.status;
    take_message(c, ret);
    take_retry_after(c, ret);
    if (status == 202 || status == 207 || status == 400) {
        if (take_counts(c, b, first, count, ret))
            return SEND_DONE;
        if (status / 100 == 2)
            return SEND_UNKNOWN;
        ret->accepted = 0;
        ret->refused = count;
        c->on_refused(c->ctx, count == 1 ? &b->lines[first] : NULL, span_str(ret->text));
        return SEND_DONE;
    }
    if (status == 413)
        return SEND_TOO_LARGE;
    if (status == 429)
        return SEND_LATER;
    return status == 408 || status >= 500 ? SEND_UNKNOWN : SEND_REFUSED;
}

static enum send_outcome post_http(struct send_channel *c, const struct send_batch *b, unsigned first, unsigned count,
                                   struct send_result *ret)
{
    http_client_begin(&c->http, HTTP_CLIENT_PLAIN);
    bool sent = write_request(c, text_of(b, first, count));
    /* An agent that refuses early answers and closes while we still write: its answer is worth reading. */
    int sys = errno;
    if (!read_answer(c)) {
        errno = sent ? errno : sys;
        return broke(c, ret, sent ? "waiting for the answer" : "sending");
    }
    enum send_outcome outcome = judge(c, b, first, count, ret);
    if (!sent || !c->http.reusable)
        disconnect(c);
    return outcome;
}

/* --- Unix stream -------------------------------------------------------------------------------------- */

static bool read_line(struct send_channel *c, struct span *ret)
{
    uint8_t buffer[4096];
    for (;;) {
        const uint8_t *end = c->in.len > 0 ? memchr(c->in.at, '\n', c->in.len) : NULL;
        if (end != NULL) {
            *ret = span_of(c->in.at, (size_t)(end - c->in.at));
            return true;
        }
        ssize_t n = dial_read(c->fd, buffer, sizeof buffer);
        if (n == 0)
            errno = 0;
        if (n <= 0 || bytes_append(&c->in, span_of(buffer, (size_t)n)) != OK)
            return false;
    }
}

static uint64_t number_of(const struct json_member *members, size_t count, const char *name)
{
    const struct json_member *m = json_find(members, count, name);
    uint64_t n = 0;
    return m != NULL && m->value.type == JSON_NUMBER && json_uint64(m->value.text, &n) ? n : 0;
}

static enum send_outcome judge_line(struct send_channel *c, struct span line, unsigned count, struct send_result *ret)
{
    struct json_member members[8];
    struct json_value value;
    size_t n = 0;
    if (json_check_object(line, members, 8, &n, &value, NULL) != OK || json_find(members, n, "accepted") == NULL) {
        snprintf(ret->text, sizeof ret->text, "%.*s", SPAN_FMT(line));
        return memmem(line.at, line.len, "too_large", 9) != NULL ? SEND_TOO_LARGE : SEND_UNKNOWN;
    }
    uint64_t accepted = number_of(members, n, "accepted"), refused = number_of(members, n, "rejected");
    ret->accepted = accepted - c->accepted_before;
    ret->refused = refused - c->refused_before;
    c->accepted_before = accepted;
    c->refused_before = refused;
    const struct json_member *error = json_find(members, n, "first_error");
    if (ret->refused > 0)
        c->on_refused(c->ctx, NULL, error != NULL && error->value.type == JSON_STRING ? json_raw_string(&error->value) : SPAN("refused"));
    if (ret->accepted + ret->refused == count)
        return SEND_DONE;
    snprintf(ret->text, sizeof ret->text, "the agent's count is not ours: %.*s", SPAN_FMT(line));
    return SEND_UNKNOWN;
}

static enum send_outcome post_unix(struct send_channel *c, const struct send_batch *b, unsigned first, unsigned count,
                                   struct send_result *ret)
{
    struct span line;
    if (!dial_write(c->fd, text_of(b, first, count)) || !dial_write(c->fd, SPAN("{\"penstock\":\"ack\"}\n")))
        return broke(c, ret, "sending");
    if (!read_line(c, &line))
        return broke(c, ret, "waiting for the answer");
    enum send_outcome outcome = judge_line(c, line, count, ret);
    if (outcome == SEND_DONE)
        bytes_consume(&c->in, line.len + 1);
    else
        disconnect(c);
    return outcome;
}

enum send_outcome send_channel_post(struct send_channel *c, const struct send_batch *b, unsigned first, unsigned count,
                                    struct send_result *ret)
{
    *ret = (struct send_result){0};
    if (!ensure_connected(c, ret->text, sizeof ret->text))
        return SEND_UNKNOWN;
    return c->socket_path != NULL ? post_unix(c, b, first, count, ret) : post_http(c, b, first, count, ret);
}
