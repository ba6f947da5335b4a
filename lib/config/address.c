/* address: listeners, URLs and names. Nothing is looked up: a listener is an address, since a name could mean
 * another place tomorrow; `localhost` is taken for 127.0.0.1. */
#include "lib/config/judge.h"

#include "lib/base/ip.h"

#include <stdio.h>

bool address_is_ip(const char *host, bool *ret_ipv6, bool *ret_loopback)
{
    uint8_t address[16];
    size_t len = ip_parse(span_str(host), address);
    *ret_ipv6 = len == 16;
    *ret_loopback = len > 0 && ip_is_loopback(address, len);
    return len > 0;
}

static bool name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool address_name_ok(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > CONFIG_NAME_MAX || !name_byte(name[0]))
        return false;
    for (size_t i = 1; i < len; i++)
        if (!name_byte(name[i]) && strchr("_.-", name[i]) == NULL)
            return false;
    return true;
}

/* Splits "host:port", "[v6]:port" or, when port_optional, "host". */
static bool split_host_port(struct span text, bool port_optional, struct span *ret_host, uint64_t *ret_port,
                            bool *ret_has_port)
{
    size_t host_end = 0, after;
    *ret_has_port = false;
    if (text.len > 0 && text.at[0] == '[') {
        const uint8_t *close = memchr(text.at, ']', text.len);
        if (close == NULL)
            return false;
        host_end = (size_t)(close - text.at);
        *ret_host = span_of(text.at + 1, host_end - 1);
        after = host_end + 1;
    } else {
        while (host_end < text.len && text.at[host_end] != ':')
            host_end++;
        *ret_host = span_of(text.at, host_end);
        after = host_end;
    }
    if (after == text.len)
        return port_optional && ret_host->len > 0;
    struct span port = span_of(text.at + after + 1, text.len - after - 1);
    if (text.at[after] != ':' || port.len > 5 || !span_u64(port, ret_port) || *ret_port > 65535)
        return false;
    *ret_has_port = true;
    return ret_host->len > 0;
}

static const char *listen_unix(struct judge *j, const char *path, struct config_listen *ret)
{
    size_t len = strlen(path);
    if (len == 0)
        return "expected a path after unix:";
    if (len > CONFIG_SOCKET_PATH_MAX)
        return "expected a path of at most 107 bytes, which is all that a socket address holds";
    ret->kind = CONFIG_LISTEN_UNIX;
    ret->path = judge_copy(j, span_str(path));
    ret->loopback = true;
    return NULL;
}

const char *address_listen(struct judge *j, const char *text, unsigned flags, struct config_listen *ret)
{
    static const char *const plain = "expected an address and a port, such as 127.0.0.1:4380 or [::1]:4380";
    static const char *const wide =
        "expected an address and a port such as 127.0.0.1:4390, unix:PATH, or false";
    struct config_listen l = {.text = judge_copy(j, span_str(text))};
    const char *wrong = (flags & SCHEMA_ALLOW_UNIX) != 0 ? wide : plain;
    if ((flags & SCHEMA_ALLOW_OFF) != 0 && strcmp(text, "false") == 0) {
        l.kind = CONFIG_LISTEN_OFF;
        *ret = l;
        return NULL;
    }
    if ((flags & SCHEMA_ALLOW_UNIX) != 0 && strncmp(text, "unix:", 5) == 0) {
        const char *fault = listen_unix(j, text + 5, &l);
        if (fault == NULL)
            *ret = l;
        return fault;
    }
    struct span host;
    uint64_t port;
    bool has_port;
    if (!split_host_port(span_str(text), false, &host, &port, &has_port))
        return wrong;
    if (span_is(host, "localhost"))
        host = SPAN("127.0.0.1");
    l.kind = CONFIG_LISTEN_INET;
    l.host = judge_copy(j, host);
    l.port = (uint16_t)port;
    if (!address_is_ip(l.host, &l.ipv6, &l.loopback) || (l.ipv6 != (text[0] == '[')))
        return wrong;
    *ret = l;
    return NULL;
}

static bool host_name_ok(const char *host)
{
    size_t len = strlen(host);
    for (size_t i = 0; i < len; i++)
        if (!name_byte(host[i]) && strchr("-._", host[i]) == NULL)
            return false;
    return len > 0 && len <= 253 && host[0] != '.' && host[0] != '-';
}

static bool visible(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] <= 0x20 || s.at[i] >= 0x7F || s.at[i] == '#' || s.at[i] == '\\')
            return false;
    return true;
}

static const char *url_authority(struct judge *j, struct span authority, struct config_url *u)
{
    struct span host;
    uint64_t port = u->tls ? 443 : 80;
    bool has_port;
    if (memchr(authority.at, '@', authority.len) != NULL)
        return "expected a URL without user and password; they belong under credentials";
    if (!split_host_port(authority, true, &host, &port, &has_port) || (has_port && port == 0))
        return "expected a host, and perhaps a port from 1 to 65535";
    u->host = judge_copy(j, host);
    u->port = (uint16_t)port;
    u->host_is_ip = address_is_ip(u->host, &u->ipv6, &u->loopback);
    if (u->ipv6 != (authority.at[0] == '[') || (!u->host_is_ip && !host_name_ok(u->host)))
        return "expected a host name or an address (IPv6 in brackets)";
    if (strcmp(u->host, "localhost") == 0)
        u->loopback = true;
    char text[300], colon[8] = "";
    if (port != (u->tls ? 443u : 80u))
        (void)snprintf(colon, sizeof colon, ":%u", (unsigned)u->port);
    (void)snprintf(text, sizeof text, "%s%s%s%s", u->ipv6 ? "[" : "", u->host, u->ipv6 ? "]" : "", colon);
    u->authority = judge_copy(j, span_str(text));
    return NULL;
}

const char *address_url(struct judge *j, const char *text, bool full, struct config_url *ret)
{
    struct config_url u = {.text = judge_copy(j, span_str(text))};
    u.shown = u.text;
    struct span rest = span_str(text);
    if (span_starts(rest, SPAN("https://")))
        u.tls = true;
    else if (!span_starts(rest, SPAN("http://")))
        return "expected a URL that begins with https:// or http://";
    size_t scheme = u.tls ? 8 : 7;
    rest = span_of(rest.at + scheme, rest.len - scheme);
    if (!visible(rest) || rest.len > 2000)
        return "expected a URL of at most 2,000 visible ASCII characters without #";
    size_t authority_len = 0;
    while (authority_len < rest.len && rest.at[authority_len] != '/' && rest.at[authority_len] != '?')
        authority_len++;
    const char *fault = url_authority(j, span_of(rest.at, authority_len), &u);
    if (fault != NULL)
        return fault;
    rest = span_of(rest.at + authority_len, rest.len - authority_len);
    const uint8_t *mark = memchr(rest.at, '?', rest.len);
    struct span path = span_of(rest.at, mark != NULL ? (size_t)(mark - rest.at) : rest.len);
    struct span query = span_of(rest.at + path.len, rest.len - path.len);
    if (!full && query.len > 0)
        return "expected a base URL; a query has no place in it";
    while (!full && path.len > 0 && path.at[path.len - 1] == '/')
        path.len--;
    u.path = full && path.len == 0 ? "/" : judge_copy(j, path);
    u.query = judge_copy(j, query);
    *ret = u;
    return NULL;
}
