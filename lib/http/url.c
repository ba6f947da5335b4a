/* url: see url.h. */
#include "lib/http/url.h"

#include "lib/base/hex.h"
#include "lib/base/ip.h"

static struct span tail(struct span s, size_t from)
{
    return span_of(s.at + from, s.len - from);
}

/* The index of the first character of `set` in s, or s.len. */
static size_t find_any(struct span s, const char *set)
{
    size_t i = 0;
    while (i < s.len && (s.at[i] == '\0' || strchr(set, s.at[i]) == NULL))
        i++;
    return i;
}

static bool is_alnum(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static enum err check_name(struct span host, struct fault *why)
{
    if (host.len == 0)
        return fault_set(why, ERR_MALFORMED, "the host is missing");
    if (host.len > 253)
        return fault_set(why, ERR_MALFORMED, "the host name is longer than 253 characters");
    size_t label = 0;
    for (size_t i = 0; i < host.len; i++) {
        uint8_t c = host.at[i];
        if (c == '.' && label == 0)
            return fault_set(why, ERR_MALFORMED, "the host name has an empty label");
        if (c != '.' && c != '-' && c != '_' && !is_alnum(c))
            return fault_set(why, ERR_MALFORMED, "the host name has a character that names do not have");
        label = c == '.' ? 0 : label + 1;
        if (label > 63)
            return fault_set(why, ERR_MALFORMED, "a label of the host name is longer than 63 characters");
    }
    return OK;
}

/* "1.2.3.4.5" or "300.1.1.1" would be looked up as a name and fail late and oddly. */
static bool looks_like_v4(struct span host)
{
    for (size_t i = 0; i < host.len; i++)
        if (host.at[i] != '.' && (host.at[i] < '0' || host.at[i] > '9'))
            return false;
    return host.len > 0;
}

static enum err parse_host(struct span host, struct url *u, struct fault *why)
{
    uint8_t address[16];
    u->host = host;
    if (u->host_is_v6) {
        u->host_is_ip = true;
        if (ip_parse(host, address) != 16)
            return fault_set(why, ERR_MALFORMED, "what stands in brackets is not an IPv6 address");
        return OK;
    }
    u->host_is_ip = ip_parse(host, address) == 4;
    if (!u->host_is_ip && looks_like_v4(host))
        return fault_set(why, ERR_MALFORMED, "the host is not an IPv4 address");
    return check_name(host, why);
}

static enum err parse_port(struct span text, struct url *u, struct fault *why)
{
    uint64_t port;
    if (text.len == 0) /* "host:" is legal and means the scheme's own port */
        return OK;
    if (!span_u64(text, &port) || port == 0 || port > 65535)
        return fault_set(why, ERR_MALFORMED, "the port is not a number from 1 to 65535");
    u->port = (uint16_t)port;
    return OK;
}

static enum err parse_authority(struct span authority, struct url *u, struct fault *why)
{
    if (memchr(authority.at, '@', authority.len) != NULL)
        return fault_set(why, ERR_MALFORMED, "user information before the host is not taken");
    size_t host_end;
    if (authority.len > 0 && authority.at[0] == '[') {
        size_t close = find_any(authority, "]");
        if (close == authority.len)
            return fault_set(why, ERR_MALFORMED, "the bracket of an IPv6 address is not closed");
        u->host_is_v6 = true;
        host_end = close + 1;
        if (host_end < authority.len && authority.at[host_end] != ':')
            return fault_set(why, ERR_MALFORMED, "after the IPv6 address only ':port' may follow");
    } else {
        host_end = find_any(authority, ":");
    }
    struct span host = span_of(authority.at, host_end);
    if (u->host_is_v6)
        host = span_of(authority.at + 1, host_end - 2);
    enum err err = parse_host(host, u, why);
    if (err == OK && host_end < authority.len)
        err = parse_port(tail(authority, host_end + 1), u, why);
    return err;
}

static bool has_bad_byte(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] <= ' ' || s.at[i] >= 0x7f || strchr("\"<>\\^`{|}", s.at[i]) != NULL)
            return true;
    return false;
}

enum err url_parse(struct span text, struct url *ret, struct fault *why)
{
    struct url u = {.port = 80};
    if (text.len > URL_BYTES_MAX)
        return fault_set(why, ERR_MALFORMED, "the URL is longer than %d characters", URL_BYTES_MAX);
    if (text.len >= 8 && span_equal_nocase(span_of(text.at, 8), SPAN("https://"))) {
        u.tls = true;
        u.port = 443;
        text = tail(text, 8);
    } else if (text.len >= 7 && span_equal_nocase(span_of(text.at, 7), SPAN("http://"))) {
        text = tail(text, 7);
    } else {
        return fault_set(why, ERR_MALFORMED, "the URL must begin with http:// or https://");
    }
    if (has_bad_byte(text))
        return fault_set(why, ERR_MALFORMED, "the URL has a character that must be percent-encoded");
    if (find_any(text, "#") < text.len)
        return fault_set(why, ERR_MALFORMED, "a fragment (#…) has no meaning here");
    size_t authority_end = find_any(text, "/?");
    enum err err = parse_authority(span_of(text.at, authority_end), &u, why);
    if (err != OK)
        return err;
    url_split_target(tail(text, authority_end), &u.path, &u.query);
    *ret = u;
    return OK;
}

enum err url_write_authority(struct bytes *b, const struct url *u, bool always_port)
{
    size_t start = b->len;
    enum err err = u->host_is_v6 ? bytes_append_byte(b, '[') : OK;
    if (err == OK)
        err = bytes_append(b, u->host);
    if (err == OK && u->host_is_v6)
        err = bytes_append_byte(b, ']');
    if (err == OK && (always_port || u->port != (u->tls ? 443 : 80)))
        err = bytes_printf(b, ":%u", (unsigned)u->port);
    if (err != OK)
        b->len = start;
    return err;
}

static bool is_unreserved(uint8_t c)
{
    return is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

enum err url_encode_segment(struct bytes *b, struct span segment)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t start = b->len;
    for (size_t i = 0; i < segment.len; i++) {
        uint8_t c = segment.at[i];
        const uint8_t escaped[3] = {'%', (uint8_t)digits[c >> 4], (uint8_t)digits[c & 15]};
        enum err err = is_unreserved(c) ? bytes_append_byte(b, c) : bytes_append(b, span_of(escaped, 3));
        if (err != OK) {
            b->len = start;
            return err;
        }
    }
    return OK;
}

enum err url_decode(struct bytes *b, struct span encoded)
{
    size_t start = b->len;
    enum err err = bytes_reserve(b, encoded.len);
    for (size_t i = 0; i < encoded.len && err == OK; i++) {
        uint8_t c = encoded.at[i];
        if (c == '%') {
            int escaped = hex_escaped(encoded, i);
            if (escaped < 0) {
                err = ERR_MALFORMED;
                break;
            }
            c = (uint8_t)escaped;
            i += 2;
        }
        err = bytes_append_byte(b, c);
    }
    if (err != OK)
        b->len = start;
    return err;
}

void url_split_target(struct span target, struct span *ret_path, struct span *ret_query)
{
    size_t mark = find_any(target, "?");
    *ret_path = span_of(target.at, mark);
    *ret_query = mark < target.len ? tail(target, mark + 1) : (struct span){0};
}

bool url_next_segment(struct span *rest, struct span *ret_segment)
{
    if (rest->len == 0 || rest->at[0] != '/')
        return false;
    *rest = tail(*rest, 1);
    size_t end = find_any(*rest, "/");
    *ret_segment = span_of(rest->at, end);
    *rest = tail(*rest, end);
    return true;
}

bool url_query_value(struct span query, const char *name, struct span *ret_value)
{
    while (query.len > 0) {
        size_t end = find_any(query, "&");
        struct span pair = span_of(query.at, end);
        size_t equals = find_any(pair, "=");
        if (span_is(span_of(pair.at, equals), name)) {
            *ret_value = equals < pair.len ? tail(pair, equals + 1) : span_of(pair.at + pair.len, 0);
            return true;
        }
        query = end < query.len ? tail(query, end + 1) : (struct span){0};
    }
    return false;
}
