/* forward_auth: the handshake, and everything else that the server writes. See forward.h.
 *
 * The server speaks first: HELO with a nonce, and with a salt when users must log in. The client's PING
 * proves that it knows the shared key, and PONG proves the same of the server: PING digest hex(sha512(client
 * salt, client host name, nonce, shared key)) PING password  hex(sha512(our salt, user name, password)) PONG
 * digest    hex(sha512(client salt, our host name, nonce, shared key)) msgpack-c writes; reading is
 * forward.c's. */
#include "lib/base/ensure.h"
#include "lib/codec/forward_inner.h"

#include <msgpack.h>

enum { HEX_DIGEST = 2 * FORWARD_DIGEST };

static int put_str(msgpack_packer *p, struct span s)
{
    return msgpack_pack_str_with_body(p, s.at, s.len);
}

static int put_bin(msgpack_packer *p, struct span s)
{
    return msgpack_pack_bin_with_body(p, s.at, s.len);
}

static enum err written(int failed, struct bytes *out, size_t before)
{
    if (!failed)
        return OK;
    out->len = before;
    return ERR_TOO_BIG;
}

enum err forward_write_ack(struct span chunk, bool is_bin, struct bytes *out)
{
    msgpack_packer p;
    msgpack_packer_init(&p, out, msgpack_write);
    int failed =
        msgpack_pack_map(&p, 1) || put_str(&p, SPAN("ack")) || (is_bin ? put_bin : put_str)(&p, chunk);
    return written(failed, out, out->len);
}

enum err forward_helo(struct forward_handshake *h, const struct forward_auth *auth, struct entropy *entropy,
                      struct bytes *out)
{
    size_t before = out->len;
    msgpack_packer p;
    struct span salt = auth->user_count > 0 ? span_of(h->salt, sizeof h->salt) : SPAN("");
    entropy_fill(entropy, h->nonce, sizeof h->nonce);
    entropy_fill(entropy, h->salt, sizeof h->salt);
    msgpack_packer_init(&p, out, msgpack_write);
    int failed = msgpack_pack_array(&p, 2) || put_str(&p, SPAN("HELO")) || msgpack_pack_map(&p, 3) ||
                 put_str(&p, SPAN("nonce")) || put_bin(&p, span_of(h->nonce, sizeof h->nonce)) ||
                 put_str(&p, SPAN("auth")) || put_bin(&p, salt) || put_str(&p, SPAN("keepalive")) ||
                 msgpack_pack_true(&p);
    return written(failed, out, before);
}

static void hex_digest(const struct forward_auth *auth, const struct span *parts, size_t count,
                       uint8_t ret[HEX_DIGEST])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[FORWARD_DIGEST];
    auth->sha512(parts, count, digest);
    for (size_t i = 0; i < FORWARD_DIGEST; i++) {
        ret[2 * i] = (uint8_t)digits[digest[i] >> 4];
        ret[2 * i + 1] = (uint8_t)digits[digest[i] & 15];
    }
}

/* Takes as long for a digest that differs in its first byte as for one that differs in its last. */
static bool same_digest(struct span given, const uint8_t expected[HEX_DIGEST])
{
    unsigned differs = 0;
    if (given.len != HEX_DIGEST)
        return false;
    for (size_t i = 0; i < HEX_DIGEST; i++)
        differs |= (unsigned)(given.at[i] ^ expected[i]);
    return differs == 0;
}

static bool knows_password(const struct forward_handshake *h, const struct forward_auth *auth,
                           const struct forward_ping *ping)
{
    uint8_t expected[HEX_DIGEST];
    bool known = false;
    for (size_t i = 0; i < auth->user_count; i++) {
        const struct forward_user *u = &auth->users[i];
        struct span parts[] = {span_of(h->salt, sizeof h->salt), u->name, u->password};
        hex_digest(auth, parts, 3, expected);
        known |= same_digest(ping->password, expected) && span_equal(u->name, ping->username);
    }
    return known;
}

static enum err put_pong(bool yes, struct span reason, struct span hostname, struct span digest,
                         struct bytes *out)
{
    size_t before = out->len;
    msgpack_packer p;
    msgpack_packer_init(&p, out, msgpack_write);
    int failed = msgpack_pack_array(&p, 5) || put_str(&p, SPAN("PONG")) ||
                 (yes ? msgpack_pack_true(&p) : msgpack_pack_false(&p)) || put_str(&p, reason) ||
                 put_str(&p, hostname) || put_str(&p, digest);
    return written(failed, out, before);
}

enum err forward_pong_no(const char *reason, struct bytes *out)
{
    return put_pong(false, span_str(reason), SPAN(""), SPAN(""), out);
}

enum err forward_pong(const struct forward_handshake *h, const struct forward_auth *auth,
                      const struct forward_ping *ping, struct bytes *out, struct fault *why)
{
    uint8_t digest[HEX_DIGEST];
    struct span nonce = span_of(h->nonce, sizeof h->nonce);
    const char *reason = NULL;
    struct span theirs[] = {ping->salt, ping->hostname, nonce, auth->shared_key};
    hex_digest(auth, theirs, 4, digest);
    if (!same_digest(ping->digest, digest))
        reason = "shared_key mismatch";
    else if (auth->user_count > 0 && !knows_password(h, auth, ping))
        reason = "username/password mismatch";
    if (reason != NULL) {
        enum err err = forward_pong_no(reason, out);
        return err == OK ? fault_set(why, ERR_DENIED, "%s", reason) : err;
    }
    struct span ours[] = {ping->salt, auth->hostname, nonce, auth->shared_key};
    hex_digest(auth, ours, 4, digest);
    return put_pong(true, SPAN(""), auth->hostname, span_of(digest, sizeof digest), out);
}
