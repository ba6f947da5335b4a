#include "tests/unit/tls/tls_pair.h"

#include "lib/base/ensure.h"

struct pem pem_make(const char *common_name, const char *name, const struct pem *issuer,
                    uint64_t not_before_s, uint64_t not_after_s)
{
    struct pem p;
    bytes_init(&p.cert, 16384);
    bytes_init(&p.key, 16384);
    const struct span names[] = {span_str(name)};
    const struct tls_make m = {
        .common_name = common_name,
        .names = names,
        .name_count = name == NULL ? 0 : 1,
        .not_before_s = not_before_s,
        .not_after_s = not_after_s,
        .authority = name == NULL,
        .issuer_cert_pem = issuer == NULL ? (struct span){0} : bytes_span(&issuer->cert),
        .issuer_key_pem = issuer == NULL ? (struct span){0} : bytes_span(&issuer->key),
    };
    struct fault why;
    ensure(tls_make_certificate(&m, &p.cert, &p.key, &why) == OK);
    return p;
}

void pem_free(struct pem *p)
{
    bytes_deinit(&p->cert);
    bytes_deinit(&p->key);
}

static struct tls_context *context_of(bool server, const struct pem *roots, const struct pem *own)
{
    struct tls_settings settings = {.server = server, .verify = !server && roots != NULL};
    struct tls_context *context = NULL;
    struct fault why;
    if (roots != NULL)
        ensure(tls_roots_new(bytes_span(&roots->cert), &settings.roots, &why) == OK);
    if (own != NULL) {
        settings.cert_pem = bytes_span(&own->cert);
        settings.key_pem = bytes_span(&own->key);
    }
    ensure(tls_context_new(&settings, &context, &why) == OK);
    tls_roots_free(settings.roots);
    return context;
}

struct tls_context *server_context(const struct pem *own, const struct pem *clients_signed_by)
{
    return context_of(true, clients_signed_by, own);
}

struct tls_context *client_context(const struct pem *trusts, const struct pem *own)
{
    return context_of(false, trusts, own);
}

void pair_open(struct pair *p, struct tls_context *client, struct tls_context *server, const char *name,
               struct span resume)
{
    *p = (struct pair){.client_err = ERR_AGAIN, .server_err = ERR_AGAIN};
    struct fault why;
    ensure(tls_session_new(client, span_str(name), resume, &p->client, &why) == OK);
    ensure(tls_session_new(server, (struct span){0}, (struct span){0}, &p->server, &why) == OK);
}

static bool carry(struct tls_session *from, struct tls_session *to, size_t step)
{
    struct span out = tls_session_output(from);
    if (out.len == 0)
        return false;
    size_t n = step > 0 && step < out.len ? step : out.len;
    if (tls_session_give(to, span_of(out.at, n)) != OK)
        return false;
    tls_session_sent(from, n);
    return true;
}

bool pair_carry(struct pair *p)
{
    bool there = carry(p->client, p->server, p->step);
    return carry(p->server, p->client, p->step) || there;
}

void pair_shake(struct pair *p)
{
    do {
        p->client_err = tls_session_handshake(p->client, &p->client_why);
        p->server_err = tls_session_handshake(p->server, &p->server_why);
    } while (pair_carry(p));
    p->client_err = tls_session_handshake(p->client, &p->client_why);
    p->server_err = tls_session_handshake(p->server, &p->server_why);
}

void pair_close(struct pair *p)
{
    tls_session_free(p->client);
    tls_session_free(p->server);
}
