/* http_head: see http_head.h.
 *
 * The callbacks only note offsets from the head's first byte. A span that comes in several calls, because
 * the head came in several reads, goes on where it ended; a header value that goes on anywhere else is a
 * folded line. Folding that llhttp hides (an empty first line), and a bare LF at the end, show as an unusual
 * distance between the parts of a line; only then are the bytes looked at again. */
#include "lib/http/http_head.h"

#include "lib/base/ensure.h"
#include "lib/http/http_spill.h"

#define VERSION_LEN 11 /* " HTTP/1.1\r\n" */

enum lex { LEX_START = 0, LEX_NAME, LEX_VALUE, LEX_TOO_MANY };

void http_head_refuse(struct http_server *s, unsigned status, const char *code, const char *message)
{
    if (s->refusal.status == 0)
        s->refusal = (struct http_refusal){status, code, message};
}

static int refuse_in_callback(struct http_server *s, unsigned status, const char *code, const char *message)
{
    http_head_refuse(s, status, code, message);
    return -1;
}

static uint32_t offset_of(const struct http_server *s, const char *at)
{
    return s->slice_offset + (uint32_t)((const uint8_t *)at - s->slice);
}

static int on_url(llhttp_t *parser, const char *at, size_t len)
{
    struct http_server *s = parser->data;
    if (s->url_len == 0)
        s->url_at = offset_of(s, at);
    s->url_len += (uint32_t)len;
    return 0;
}

/* Extensions of chunks and trailers are not used, only bounded. Reasons found here and by llhttp itself
 * share one status, as which comes first depends on how the bytes were cut. */
static int count_extra(struct http_server *s, size_t len)
{
    s->chunk_extra += len;
    if (s->chunk_extra > s->shared->limits.header_bytes_max)
        return refuse_in_callback(s, 400, "bad_request", "chunk extensions and trailers are too long");
    return 0;
}

static int on_chunk_extension(llhttp_t *parser, const char *at, size_t len)
{
    (void)at;
    return count_extra(parser->data, len);
}

/* What lies between the end of the header before and this name must be one line end. */
static void check_gap_before(struct http_server *s, uint32_t name_at)
{
    if (s->header_count == 0) {
        if (name_at != s->url_at + s->url_len + VERSION_LEN)
            s->odd_lines = true;
        return;
    }
    const struct http_header *before = &s->headers[s->header_count - 1];
    if (before->value_len == 0 || before->value_at + before->value_len + 2 != name_at)
        s->odd_lines = true;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t len)
{
    struct http_server *s = parser->data;
    if (s->state == HTTP_AT_CHUNKS)
        return count_extra(s, len);
    uint32_t offset = offset_of(s, at);
    if (s->lex == LEX_NAME) {
        struct http_header *now = &s->headers[s->header_count - 1];
        if (offset == now->name_at + now->name_len) {
            now->name_len = (uint16_t)(now->name_len + len);
            return 0;
        }
    }
    if (s->header_count == s->shared->limits.header_count_max) {
        s->lex = LEX_TOO_MANY;
        return 0;
    }
    check_gap_before(s, offset);
    s->headers[s->header_count++] = (struct http_header){.name_at = offset, .name_len = (uint16_t)len};
    s->lex = LEX_NAME;
    return 0;
}

/* Refused only when the name is whole, so that how it was cut cannot matter. */
static int on_header_field_complete(llhttp_t *parser)
{
    struct http_server *s = parser->data;
    if (s->lex == LEX_TOO_MANY)
        return refuse_in_callback(s, 431, "headers_too_large", "too many headers");
    if (s->state != HTTP_AT_CHUNKS && s->headers[s->header_count - 1].name_len == 0)
        return refuse_in_callback(s, 400, "bad_request", "a header without a name");
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t len)
{
    struct http_server *s = parser->data;
    if (s->state == HTTP_AT_CHUNKS)
        return count_extra(s, len);
    struct http_header *now = &s->headers[s->header_count - 1];
    uint32_t offset = offset_of(s, at);
    if (now->value_len == 0) {
        now->value_at = offset;
        if (offset > now->name_at + now->name_len + 2)
            s->odd_lines = true;
    } else if (offset != now->value_at + now->value_len) {
        return refuse_in_callback(s, 400, "bad_request", "folded header lines are not taken");
    }
    now->value_len += (uint32_t)len;
    s->lex = LEX_VALUE;
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    (void)parser;
    return HPE_PAUSED;
}

static int on_chunk_header(llhttp_t *parser)
{
    struct http_server *s = parser->data;
    if (parser->content_length > s->shared->limits.body_bytes_max - s->body_len)
        return refuse_in_callback(s, 413, "too_large", "the body is larger than this input takes");
    s->body_len += parser->content_length;
    return 0;
}

/* The first chunk is borrowed where it lies; a second piece makes a copy of both. */
static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct http_server *s = parser->data;
    struct span piece = span_of(at, len);
    if (s->body.len == 0 && (s->spill == NULL || s->spill->body.len == 0)) {
        s->body = piece;
        return 0;
    }
    enum err err = http_head_keep(s);
    if (err == OK)
        err = http_spill_body(s->shared, s->spill, s->body);
    if (err == OK)
        err = http_spill_body(s->shared, s->spill, piece);
    s->body = (struct span){0};
    if (err != OK)
        return refuse_in_callback(s, 503, "busy", "too many large requests at once");
    return 0;
}

static int on_message_complete(llhttp_t *parser)
{
    (void)parser;
    return HPE_PAUSED;
}

const llhttp_settings_t *http_head_settings(void)
{
    static const llhttp_settings_t settings = {
        .on_url = on_url,
        .on_header_field = on_header_field,
        .on_header_field_complete = on_header_field_complete,
        .on_header_value = on_header_value,
        .on_headers_complete = on_headers_complete,
        .on_chunk_header = on_chunk_header,
        .on_chunk_extension_name = on_chunk_extension,
        .on_chunk_extension_value = on_chunk_extension,
        .on_body = on_body,
        .on_message_complete = on_message_complete,
    };
    return &settings;
}

void http_head_begin(struct http_server *s)
{
    llhttp_init(&s->parser, HTTP_REQUEST, http_head_settings());
    s->parser.data = s;
    s->lex = LEX_START;
    s->odd_lines = s->head_whole = false;
    s->header_count = 0;
    s->head_len = s->url_at = s->url_len = 0;
    s->headers = s->shared->headers;
    s->body = (struct span){0};
    s->body_left = s->body_len = 0;
    s->chunk_extra = 0;
    s->refusal = (struct http_refusal){0};
}

const uint8_t *http_head_bytes(const struct http_server *s)
{
    return s->spill != NULL && s->spill->head.len > 0 ? s->spill->head.at : s->head;
}

enum err http_head_keep(struct http_server *s)
{
    if (s->spill != NULL)
        return OK;
    s->spill = http_spill_take(s->shared);
    memcpy(s->spill->headers, s->headers, s->header_count * sizeof *s->headers);
    s->headers = s->spill->headers;
    return http_spill_append(s->shared, &s->spill->head, span_of(s->head, s->head_len));
}

/* A line that begins with a space or tab continues the one before; a line that ends without CR may end for
 * us and not for somebody in front of us. */
static bool has_bad_line(const uint8_t *at, size_t len)
{
    const uint8_t *end = at + len;
    for (const uint8_t *lf = at; (lf = memchr(lf, '\n', (size_t)(end - lf))) != NULL;) {
        if (lf == at || lf[-1] != '\r')
            return true;
        lf++;
        if (lf < end && (*lf == ' ' || *lf == '\t'))
            return true;
    }
    return false;
}

static bool judge_request_line(struct http_server *s, const uint8_t *head)
{
    if (s->url_len > s->shared->limits.url_bytes_max) {
        http_head_refuse(s, 414, "uri_too_long", "the request target is too long");
        return false;
    }
    const uint8_t *after = head + s->url_at + s->url_len;
    size_t left = s->head_len - (s->url_at + s->url_len);
    if (s->url_at < 2 || head[s->url_at - 2] == ' ' || left < VERSION_LEN ||
        memcmp(after, " HTTP/", 6) != 0 || after[7] != '.' || memcmp(after + 9, "\r\n", 2) != 0) {
        http_head_refuse(s, 400, "bad_request", "malformed request line");
        return false;
    }
    if (after[6] != '1' || (after[8] != '0' && after[8] != '1')) {
        http_head_refuse(s, 505, "unsupported_version", "only HTTP/1.1 and HTTP/1.0 are spoken here");
        return false;
    }
    if (s->parser.method == HTTP_CONNECT) {
        http_head_refuse(s, 405, "method_not_allowed", "this is not a proxy");
        return false;
    }
    return true;
}

static bool judge_lines(struct http_server *s, const uint8_t *head)
{
    size_t last = s->url_at + s->url_len + VERSION_LEN - 2;
    if (s->header_count > 0)
        last = s->headers[s->header_count - 1].value_at + s->headers[s->header_count - 1].value_len;
    bool odd = s->odd_lines || last + 4 != s->head_len;
    if (odd && has_bad_line(head, s->head_len)) {
        http_head_refuse(s, 400, "bad_request", "folded header lines and bare line feeds are not taken");
        return false;
    }
    for (unsigned i = 0; i < s->header_count; i++) {
        struct http_header *h = &s->headers[i];
        while (h->value_len > 0 &&
               (head[h->value_at + h->value_len - 1] == ' ' || head[h->value_at + h->value_len - 1] == '\t'))
            h->value_len--;
        h->known = (uint16_t)http_known_of(span_of(head + h->name_at, h->name_len));
    }
    return true;
}

static unsigned count_known(const struct http_server *s, enum http_known id, struct span *ret_last)
{
    const uint8_t *head = http_head_bytes(s);
    unsigned count = 0;
    for (unsigned i = 0; i < s->header_count; i++)
        if (s->headers[i].known == id) {
            *ret_last = span_of(head + s->headers[i].value_at, s->headers[i].value_len);
            count++;
        }
    return count;
}

static bool judge_host(struct http_server *s)
{
    struct span host = {0};
    unsigned count = count_known(s, HTTP_KNOWN_HOST, &host);
    if (count > 1 || (count == 0 && s->parser.http_minor == 1)) {
        http_head_refuse(s, 400, "bad_request", "there must be one Host header");
        return false;
    }
    return true;
}

static bool judge_framing(struct http_server *s)
{
    struct span coding = {0};
    if (s->parser.flags & F_TRANSFER_ENCODING) {
        unsigned count = count_known(s, HTTP_KNOWN_TRANSFER_ENCODING, &coding);
        if ((s->parser.flags & F_CONTENT_LENGTH) || s->parser.http_minor == 0 || count != 1) {
            http_head_refuse(s, 400, "bad_request", "the length of the body is stated in two ways");
            return false;
        }
        if (!span_equal_nocase(coding, SPAN("chunked"))) {
            http_head_refuse(s, 501, "not_implemented", "chunked is the only transfer coding taken");
            return false;
        }
        return true;
    }
    if ((s->parser.flags & F_CONTENT_LENGTH) && s->parser.content_length > s->shared->limits.body_bytes_max) {
        http_head_refuse(s, 413, "too_large", "the body is larger than this input takes");
        return false;
    }
    return true;
}

bool http_head_judge(struct http_server *s)
{
    const uint8_t *head = http_head_bytes(s);
    if (!judge_request_line(s, head) || !judge_lines(s, head) || !judge_host(s))
        return false;
    s->head_whole = true;
    if (!judge_framing(s))
        return false;
    s->keep_alive = llhttp_should_keep_alive(&s->parser);
    return true;
}

static enum http_method method_of(uint8_t parsed)
{
    switch (parsed) {
    case HTTP_GET:
        return HTTP_METHOD_GET;
    case HTTP_HEAD:
        return HTTP_METHOD_HEAD;
    case HTTP_POST:
        return HTTP_METHOD_POST;
    case HTTP_PUT:
        return HTTP_METHOD_PUT;
    case HTTP_DELETE:
        return HTTP_METHOD_DELETE;
    case HTTP_OPTIONS:
        return HTTP_METHOD_OPTIONS;
    default:
        return HTTP_METHOD_OTHER;
    }
}

/* "http://host/path" on a request line is the form for proxies, which a server must take, too. */
static struct span without_authority(struct span target)
{
    size_t scheme = 0;
    if (target.len >= 7 && span_equal_nocase(span_of(target.at, 7), SPAN("http://")))
        scheme = 7;
    else if (target.len >= 8 && span_equal_nocase(span_of(target.at, 8), SPAN("https://")))
        scheme = 8;
    if (scheme == 0)
        return target;
    size_t slash = scheme;
    while (slash < target.len && target.at[slash] != '/' && target.at[slash] != '?')
        slash++;
    return span_of(target.at + slash, target.len - slash);
}

static void show_target(struct http_request *r)
{
    struct span rest = without_authority(r->target);
    const uint8_t *mark = rest.len > 0 ? memchr(rest.at, '?', rest.len) : NULL;
    r->path = rest;
    r->query = (struct span){0};
    if (mark != NULL) {
        r->path.len = (size_t)(mark - rest.at);
        r->query = span_of(mark + 1, rest.len - r->path.len - 1);
    }
    if (r->path.len == 0) /* "http://host" and "http://host?query" mean the root */
        r->path = SPAN("/");
}

void http_head_show(struct http_server *s, struct span body)
{
    struct http_request *r = &s->shared->request;
    const uint8_t *head = http_head_bytes(s);
    *r = (struct http_request){
        .handle = s->handle,
        .method = method_of(s->parser.method),
        .http_1_0 = s->parser.http_minor == 0,
        .keep_alive = s->keep_alive,
        .target = span_of(head + s->url_at, s->url_len),
        .body = body,
        .head = span_of(head, s->head_len),
        .headers = s->headers,
        .header_count = s->header_count,
    };
    r->method_name = span_of(head, s->url_at > 0 ? s->url_at - 1 : 0);
    show_target(r);
    for (unsigned i = s->header_count; i-- > 0;)
        r->known[s->headers[i].known] = (uint8_t)(i + 1);
    r->known[HTTP_KNOWN_NONE] = 0;
}
