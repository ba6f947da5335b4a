/* http_client: see http_client.h.
 *
 * One answer per batch: simplicity wins over speed here, so names and values are copied into one buffer as
 * they come and the table holds offsets into it. The pieces of a folded line are joined: servers of old may
 * still fold, and an answer is not refused for it. */
#include "lib/http/http_client.h"

#include "lib/base/ensure.h"
#include "lib/http/http_answer.h"

static bool is_clean_word(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] <= ' ' || s.at[i] == 0x7f)
            return false;
    return s.len > 0;
}

static void put_field(struct bytes *out, struct span name, struct span value)
{
    http_put(out, name);
    http_put(out, SPAN(": "));
    http_put(out, value);
    http_put(out, SPAN("\r\n"));
}

enum err http_request_head_write(struct bytes *out, const struct http_request_head *h)
{
    size_t need = h->method.len + h->target.len + h->authority.len + 128;
    if (!is_clean_word(h->method) || !is_clean_word(h->target) || !is_clean_word(h->authority))
        return ERR_MALFORMED;
    for (unsigned i = 0; i < h->field_count; i++) {
        if (!http_field_is_clean(&h->fields[i]))
            return ERR_MALFORMED;
        need += h->fields[i].name.len + h->fields[i].value.len + 4;
    }
    enum err err = bytes_reserve(out, need);
    if (err != OK)
        return err;
    http_put(out, h->method);
    http_put(out, SPAN(" "));
    http_put(out, h->target);
    http_put(out, SPAN(" HTTP/1.1\r\n"));
    put_field(out, SPAN("Host"), h->authority);
    for (unsigned i = 0; i < h->field_count; i++)
        put_field(out, h->fields[i].name, h->fields[i].value);
    if (h->has_body) {
        http_put(out, SPAN("Content-Length: "));
        http_put_number(out, h->content_length);
        http_put(out, SPAN("\r\n"));
    }
    if (h->close)
        http_put(out, SPAN("Connection: close\r\n"));
    http_put(out, SPAN("\r\n"));
    return OK;
}

enum err http_connect_write(struct bytes *out, struct span authority, struct span proxy_authorization)
{
    const struct http_field authorization = {SPAN("Proxy-Authorization"), proxy_authorization};
    const struct http_request_head head = {
        .method = SPAN("CONNECT"),
        .target = authority,
        .authority = authority,
        .fields = &authorization,
        .field_count = proxy_authorization.len > 0,
    };
    return http_request_head_write(out, &head);
}

/* --- callbacks -------------------------------------------------------------------------------------- */

static int fail(struct http_client *c, const char *error)
{
    if (c->error == NULL)
        c->error = error;
    return -1;
}

static struct http_header *last_header(struct http_client *c)
{
    ensure(c->table.len >= sizeof(struct http_header));
    return (struct http_header *)(void *)(c->table.at + c->table.len) - 1;
}

/* Trailers come through the same callbacks; they are counted and dropped. */
static int keep(struct http_client *c, struct span s)
{
    c->head_bytes += s.len;
    if (c->head_bytes > HTTP_CLIENT_HEADER_BYTES_MAX)
        return fail(c, "the headers of the answer are too long");
    if (!c->headers_done && bytes_append(&c->head, s) != OK)
        return fail(c, "the headers of the answer are too long");
    return 0;
}

static int on_message_begin(llhttp_t *parser)
{
    struct http_client *c = parser->data;
    bytes_clear(&c->head);
    bytes_clear(&c->table);
    c->any_byte = true;
    c->headers_done = false;
    c->in_value = true;
    return 0;
}

static int on_status(llhttp_t *parser, const char *at, size_t len)
{
    struct http_client *c = parser->data;
    (void)at;
    c->head_bytes += len;
    return c->head_bytes > HTTP_CLIENT_HEADER_BYTES_MAX ? fail(c, "the status line is too long") : 0;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t len)
{
    struct http_client *c = parser->data;
    if (c->headers_done)
        return keep(c, span_of(at, len));
    if (c->in_value) {
        if (c->table.len / sizeof(struct http_header) >= HTTP_HEADERS_MAX)
            return fail(c, "the answer has too many headers");
        const struct http_header fresh = {.name_at = (uint32_t)c->head.len};
        if (bytes_append(&c->table, span_of(&fresh, sizeof fresh)) != OK)
            return fail(c, "the answer has too many headers");
        c->in_value = false;
    }
    if (keep(c, span_of(at, len)) != 0)
        return -1;
    struct http_header *now = last_header(c);
    if (len > UINT16_MAX - (size_t)now->name_len)
        return fail(c, "the headers of the answer are too long");
    now->name_len = (uint16_t)(now->name_len + len);
    now->value_at = (uint32_t)c->head.len;
    return 0;
}

static int on_header_field_complete(llhttp_t *parser)
{
    struct http_client *c = parser->data;
    c->in_value = true;
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t len)
{
    struct http_client *c = parser->data;
    if (c->headers_done)
        return keep(c, span_of(at, len));
    if (keep(c, span_of(at, len)) != 0)
        return -1;
    last_header(c)->value_len += (uint32_t)len;
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct http_client *c = parser->data;
    c->headers_done = true;
    c->status = parser->status_code;
    if (parser->http_major != 1)
        return fail(c, "the answer is not HTTP/1.1 or HTTP/1.0");
    if (c->status == 101 || c->status < 100)
        return fail(c, "the answer has a status that was not asked for");
    if ((parser->flags & F_TRANSFER_ENCODING) &&
        !span_equal_nocase(http_client_header(c, SPAN("transfer-encoding")), SPAN("chunked")))
        return fail(c, "the answer has a transfer coding that was not asked for");
    parser->upgrade = 0;
    bool tunnel = c->kind == HTTP_CLIENT_CONNECT && c->status / 100 == 2;
    bool bodiless = c->kind == HTTP_CLIENT_HEAD || c->status == 204 || c->status == 304;
    return bodiless || tunnel ? 1 : 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct http_client *c = parser->data;
    size_t room = c->body.max - c->body.len;
    c->body_total += len;
    if (len > room) {
        c->body_cut = true;
        len = room;
    }
    enum err err = bytes_append(&c->body, span_of(at, len));
    ensure(err == OK);
    return 0;
}

static int on_chunk_extension(llhttp_t *parser, const char *at, size_t len)
{
    (void)at;
    struct http_client *c = parser->data;
    c->head_bytes += len;
    return c->head_bytes > HTTP_CLIENT_HEADER_BYTES_MAX ? fail(c, "chunk extensions are too long") : 0;
}

/* Interim answers (RFC 9110 15.2) are read over; any number of them, within the bound of the headers. */
static int on_message_complete(llhttp_t *parser)
{
    struct http_client *c = parser->data;
    if (c->status / 100 == 1) {
        c->any_byte = false;
        c->head_bytes += 16; /* the line itself, so that a stream of bare ones ends, too */
        return c->head_bytes > HTTP_CLIENT_HEADER_BYTES_MAX ? fail(c, "too many interim answers") : 0;
    }
    bool tunnel = c->kind == HTTP_CLIENT_CONNECT && c->status / 100 == 2;
    c->until_close = !tunnel && c->kind != HTTP_CLIENT_HEAD && llhttp_message_needs_eof(parser);
    c->reusable = llhttp_should_keep_alive(parser) && !c->until_close;
    c->state = HTTP_CLIENT_COMPLETE;
    return HPE_PAUSED;
}

static const llhttp_settings_t client_settings = {
    .on_message_begin = on_message_begin,
    .on_status = on_status,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_chunk_extension_name = on_chunk_extension,
    .on_chunk_extension_value = on_chunk_extension,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* --- driving ---------------------------------------------------------------------------------------- */

void http_client_init(struct http_client *c, size_t body_bytes_max)
{
    *c = (struct http_client){0};
    bytes_init(&c->body, body_bytes_max);
    bytes_init(&c->head, HTTP_CLIENT_HEADER_BYTES_MAX);
    bytes_init(&c->table, HTTP_HEADERS_MAX * sizeof(struct http_header));
    http_client_begin(c, HTTP_CLIENT_PLAIN);
}

void http_client_deinit(struct http_client *c)
{
    bytes_deinit(&c->body);
    bytes_deinit(&c->head);
    bytes_deinit(&c->table);
}

void http_client_trim(struct http_client *c)
{
    http_client_deinit(c);
}

void http_client_begin(struct http_client *c, enum http_client_kind kind)
{
    bytes_clear(&c->body);
    bytes_clear(&c->head);
    bytes_clear(&c->table);
    c->state = HTTP_CLIENT_READING;
    c->kind = kind;
    c->status = 0;
    c->reusable = c->body_cut = false;
    c->body_total = 0;
    c->error = NULL;
    c->head_bytes = 0;
    c->any_byte = c->headers_done = c->until_close = false;
    llhttp_init(&c->parser, HTTP_RESPONSE, &client_settings);
    c->parser.data = c;
}

size_t http_client_feed(struct http_client *c, struct span in)
{
    if (c->state != HTTP_CLIENT_READING || in.len == 0)
        return 0;
    enum llhttp_errno result = llhttp_execute(&c->parser, (const char *)in.at, in.len);
    if (result == HPE_OK)
        return in.len;
    const char *stop = llhttp_get_error_pos(&c->parser);
    size_t used = stop == NULL ? 0 : (size_t)((const uint8_t *)stop - in.at);
    if (result == HPE_PAUSED && c->state == HTTP_CLIENT_COMPLETE) {
        if (used < in.len && !(c->kind == HTTP_CLIENT_CONNECT && c->status / 100 == 2))
            c->reusable = false; /* bytes that nobody asked for */
        return used;
    }
    c->state = HTTP_CLIENT_MALFORMED;
    (void)fail(c, llhttp_get_error_reason(&c->parser));
    if (c->error == NULL)
        c->error = "malformed answer";
    return used;
}

bool http_client_answer_begun(const struct http_client *c)
{
    return c->any_byte;
}

void http_client_eof(struct http_client *c, bool clean)
{
    if (c->state != HTTP_CLIENT_READING)
        return;
    if (clean && c->headers_done && c->status / 100 != 1) {
        enum llhttp_errno result = llhttp_finish(&c->parser);
        if (c->state == HTTP_CLIENT_COMPLETE) {
            c->reusable = false;
            return;
        }
        (void)result;
    }
    c->state = http_client_answer_begun(c) ? HTTP_CLIENT_TORN : HTTP_CLIENT_NO_ANSWER;
    c->error = c->state == HTTP_CLIENT_TORN ? "the connection ended within the answer"
                                            : "the connection ended before an answer";
}

/* --- headers ---------------------------------------------------------------------------------------- */

unsigned http_client_header_count(const struct http_client *c)
{
    return (unsigned)(c->table.len / sizeof(struct http_header));
}

/* A part of the head. The head has no memory yet while all that came was empty (": " alone), and nothing may be
 * added to a null pointer, not even 0. A field without a value is there all the same: its span is not null. */
static struct span head_part(const struct http_client *c, size_t at, size_t len)
{
    return len > 0 ? span_of(c->head.at + at, len) : SPAN("");
}

struct http_field http_client_field(const struct http_client *c, unsigned i)
{
    ensure(i < http_client_header_count(c));
    const struct http_header *h = (const struct http_header *)(const void *)c->table.at + i;
    return (struct http_field){head_part(c, h->name_at, h->name_len),
                               span_trim(head_part(c, h->value_at, h->value_len))};
}

struct span http_client_header(const struct http_client *c, struct span name)
{
    for (unsigned i = 0; i < http_client_header_count(c); i++) {
        struct http_field f = http_client_field(c, i);
        if (span_equal_nocase(f.name, name))
            return f.value;
    }
    return (struct span){0};
}
