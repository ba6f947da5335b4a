/* http_answer: see http_answer.h. Room is reserved once per answer and the parts are copied behind each
 * other: no formatting functions, as an agent that takes small requests writes as many answers. */
#include "lib/http/http_answer.h"

#include "lib/base/ensure.h"

/* Status line, Date, Content-Length, Retry-After and Connection with the longest numbers fit in this. */
#define FIXED_BYTES_MAX 256

const char *http_reason(unsigned status)
{
    static const struct {
        unsigned status;
        const char *reason;
    } reasons[] = {
        {100, "Continue"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {207, "Multi-Status"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {425, "Too Early"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Unknown";
}

static bool is_token_char(uint8_t c)
{
    if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
        return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_clean_value(struct span value)
{
    for (size_t i = 0; i < value.len; i++)
        if ((value.at[i] < ' ' && value.at[i] != '\t') || value.at[i] == 0x7f)
            return false;
    return true;
}

bool http_field_is_clean(const struct http_field *f)
{
    for (size_t i = 0; i < f->name.len; i++)
        if (!is_token_char(f->name.at[i]))
            return false;
    return f->name.len > 0 && is_clean_value(f->value);
}

void http_put_number(struct bytes *b, uint64_t n)
{
    uint8_t digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (uint8_t)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    http_put(b, span_of(digits + at, sizeof digits - at));
}

static void put_text(struct bytes *b, const char *text)
{
    http_put(b, span_str(text));
}

static void put_status_line(struct bytes *out, unsigned status)
{
    http_put(out, SPAN("HTTP/1.1 "));
    http_put_number(out, status);
    http_put(out, SPAN(" "));
    put_text(out, http_reason(status));
    http_put(out, SPAN("\r\n"));
}

static bool status_has_body(unsigned status)
{
    return status >= 200 && status != 204 && status != 304;
}

static void put_framing(struct bytes *out, const struct http_answer *a, const struct http_answer_way *way)
{
    if (!status_has_body(a->status) || way->framing == HTTP_FRAMED_UNTIL_CLOSE)
        return;
    if (way->framing == HTTP_FRAMED_CHUNKED) {
        http_put(out, SPAN("Transfer-Encoding: chunked\r\n"));
        return;
    }
    http_put(out, SPAN("Content-Length: "));
    http_put_number(out, a->body.len);
    http_put(out, SPAN("\r\n"));
}

static void put_headers(struct bytes *out, const struct http_answer *a, const struct http_answer_way *way)
{
    if (way->date[0] != '\0') {
        http_put(out, SPAN("Date: "));
        put_text(out, way->date);
        http_put(out, SPAN("\r\n"));
    }
    if (a->content_type.at != NULL) {
        http_put(out, SPAN("Content-Type: "));
        http_put(out, a->content_type);
        http_put(out, SPAN("\r\n"));
    }
    put_framing(out, a, way);
    if (a->retry_after_s > 0) {
        http_put(out, SPAN("Retry-After: "));
        http_put_number(out, a->retry_after_s);
        http_put(out, SPAN("\r\n"));
    }
    for (unsigned i = 0; i < a->field_count; i++) {
        http_put(out, a->fields[i].name);
        http_put(out, SPAN(": "));
        http_put(out, a->fields[i].value);
        http_put(out, SPAN("\r\n"));
    }
    if (way->say_close)
        http_put(out, SPAN("Connection: close\r\n"));
    else if (way->say_keep_alive)
        http_put(out, SPAN("Connection: keep-alive\r\n"));
    http_put(out, SPAN("\r\n"));
}

enum err http_answer_write(struct bytes *out, const struct http_answer *a, const struct http_answer_way *way)
{
    ensure(a->status >= 100 && a->status <= 999);
    ensure(strlen(way->date) <= HTTP_DATE_LEN);
    size_t need = FIXED_BYTES_MAX + a->content_type.len + a->body.len;
    if (!is_clean_value(a->content_type))
        return ERR_MALFORMED;
    for (unsigned i = 0; i < a->field_count; i++) {
        if (!http_field_is_clean(&a->fields[i]))
            return ERR_MALFORMED;
        need += a->fields[i].name.len + a->fields[i].value.len + 4;
    }
    enum err err = bytes_reserve(out, need);
    if (err != OK)
        return err;
    put_status_line(out, a->status);
    put_headers(out, a, way);
    if (way->framing == HTTP_FRAMED_LENGTH && !way->head_only && status_has_body(a->status))
        http_put(out, a->body);
    return OK;
}
