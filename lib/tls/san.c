/* san: see san.h. A DER reader of the few shapes needed: every length is checked against the bytes that are
 * there, nothing recurses, and each step moves forward. */
#include "lib/tls/san.h"

#include "lib/base/ensure.h"

enum der_tag {
    DER_BOOLEAN = 0x01,
    DER_OCTETS = 0x04,
    DER_OID = 0x06,
    DER_SEQUENCE = 0x30,
    DER_CONTEXT = 0x80
};

/* Takes one element off the front of `rest`: its tag and content. False at the end or when it is damaged. */
static bool der_next(struct span *rest, uint8_t *ret_tag, struct span *ret_content)
{
    if (rest->len < 2)
        return false;
    size_t len = rest->at[1], head = 2;
    if (len >= 0x80) {
        size_t octets = len & 0x7f;
        if (octets == 0 || octets > 3 || rest->len < 2 + octets)
            return false;
        len = 0;
        for (size_t i = 0; i < octets; i++)
            len = len << 8 | rest->at[2 + i];
        head += octets;
    }
    if (len > rest->len - head)
        return false;
    *ret_tag = rest->at[0];
    *ret_content = span_of(rest->at + head, len);
    *rest = span_of(rest->at + head + len, rest->len - head - len);
    return true;
}

/* The content of an OCTET STRING in an Extension { extnID, critical DEFAULT FALSE, extnValue } whose id is
 * id-ce-subjectAltName; an empty span when it is another one. */
static struct span san_value(struct span extension)
{
    static const uint8_t san_oid[] = {0x55, 0x1d, 0x11};
    uint8_t tag;
    struct span content;
    if (!der_next(&extension, &tag, &content) || tag != DER_OID ||
        !span_equal(content, span_of(san_oid, sizeof san_oid)))
        return (struct span){0};
    if (!der_next(&extension, &tag, &content))
        return (struct span){0};
    if (tag == DER_BOOLEAN && !der_next(&extension, &tag, &content))
        return (struct span){0};
    return tag == DER_OCTETS ? content : (struct span){0};
}

void san_walk_begin(struct san_walk *w, struct span extensions)
{
    uint8_t tag;
    struct span list, extension;
    *w = (struct san_walk){0};
    if (!der_next(&extensions, &tag, &list) || tag != DER_SEQUENCE)
        return;
    while (der_next(&list, &tag, &extension)) {
        struct span value = san_value(extension);
        struct span names;
        if (value.at == NULL || !der_next(&value, &tag, &names) || tag != DER_SEQUENCE)
            continue;
        w->names = names;
        return;
    }
}

bool san_walk_next(struct san_walk *w, enum san_kind *ret_kind, struct span *ret_name)
{
    uint8_t tag;
    struct span content;
    while (der_next(&w->names, &tag, &content)) {
        if (tag != (DER_CONTEXT | SAN_DNS) && tag != (DER_CONTEXT | SAN_IP))
            continue;
        *ret_kind = (enum san_kind)(tag & 0x1f);
        *ret_name = content;
        return true;
    }
    return false;
}

bool san_has_ip(struct span extensions, const uint8_t *address, size_t len)
{
    struct san_walk w;
    enum san_kind kind;
    struct span name;
    san_walk_begin(&w, extensions);
    while (san_walk_next(&w, &kind, &name))
        if (kind == SAN_IP && span_equal(name, span_of(address, len)))
            return true;
    return false;
}

static void describe_ip(struct span ip, struct bytes *into)
{
    enum err err = OK;
    if (ip.len == 4) {
        err = bytes_printf(into, "%u.%u.%u.%u", ip.at[0], ip.at[1], ip.at[2], ip.at[3]);
    } else if (ip.len == 16) {
        for (size_t i = 0; i < 16 && err == OK; i += 2)
            err = bytes_printf(into, "%s%x", i > 0 ? ":" : "", (unsigned)ip.at[i] << 8 | ip.at[i + 1]);
    }
    (void)err; /* a text for people may be cut */
}

static void describe_dns(struct span name, struct bytes *into)
{
    for (size_t i = 0; i < name.len && i < 80; i++) {
        uint8_t c = name.at[i];
        if (bytes_append_byte(into, c > ' ' && c < 0x7f ? c : '?') != OK)
            return;
    }
}

void san_describe(struct span extensions, unsigned max, struct bytes *into)
{
    struct san_walk w;
    enum san_kind kind;
    struct span name;
    san_walk_begin(&w, extensions);
    for (unsigned i = 0; san_walk_next(&w, &kind, &name); i++) {
        if (i > 0 && bytes_append(into, i < max ? SPAN(", ") : SPAN(", …")) != OK)
            return;
        if (i >= max)
            return;
        if (kind == SAN_IP)
            describe_ip(name, into);
        else
            describe_dns(name, into);
    }
}
