/* A client and a server back to back over their queues, and certificates made for the occasion. */
#ifndef PENSTOCK_TESTS_TLS_PAIR_H
#define PENSTOCK_TESTS_TLS_PAIR_H

#include "lib/tls/tls.h"
#include "lib/tls/tls_make.h"

#define PAIR_NOW_S 1700000000     /* certificates begin here; the library's clock is the machine's */
#define PAIR_FOREVER_S 4102444800 /* 2100 */

struct pem {
    struct bytes cert, key;
};

struct pem pem_make(const char *common_name, const char *name, const struct pem *issuer,
                    uint64_t not_before_s, uint64_t not_after_s);
void pem_free(struct pem *p);

struct tls_context *server_context(const struct pem *own, const struct pem *clients_signed_by);
/* `trusts` NULL: nothing is verified. */
struct tls_context *client_context(const struct pem *trusts, const struct pem *own);

struct pair {
    struct tls_session *client, *server;
    enum err client_err, server_err; /* of the last handshake() */
    struct fault client_why, server_why;
    size_t step; /* bytes carried at once; 0: all */
};

void pair_open(struct pair *p, struct tls_context *client, struct tls_context *server, const char *name,
               struct span resume);
/* Carries bytes both ways until nothing moves, with handshake() on both sides. */
void pair_shake(struct pair *p);
/* Carries what there is, once, in both directions; true when something moved. */
bool pair_carry(struct pair *p);
void pair_close(struct pair *p);

#endif
