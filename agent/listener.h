/* listener: takes the addresses that inputs and admin listen on. Sockets are bound here, before any spool is
 * touched, and begin to listen only when their owner says so; or they are inherited from the service manager.
 *
 * A Unix socket's file gets its mode and group before anybody can connect. A stale file is replaced only
 * after a connect has shown that nobody listens; anything that is not a socket is left alone. */
#ifndef PENSTOCK_AGENT_LISTENER_H
#define PENSTOCK_AGENT_LISTENER_H

#include "lib/base/fault.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct config_listen;
struct config_socket;

struct listener {
    int fd;
    bool shared;      /* with a listener that a reload put away */
    bool inherited;   /* from the service manager: the file is never unlinked */
    const char *path; /* of a Unix socket that we made; the configuration's */
    dev_t device;     /* of that file, so that nobody else's is unlinked */
    ino_t inode;
    char text[128];   /* where, with the port that the kernel chose: "127.0.0.1:4380", "unix:/run/x.sock" */
    /* while a reload lends it */
    struct listener *lent_next;
    const char *lent_name;
    struct listener *heir;              /* who shares the socket and is to have the file */
    const struct config_listen *heir_where;
    const struct config_socket *heir_socket;
};

/* `name` is matched against inherited sockets first. type is SOCK_STREAM or SOCK_DGRAM; the descriptor is
 * non-blocking and close-on-exec. ERR_IN_USE, ERR_DENIED, ERR_IO, or ERR_CONFIG: what was inherited is open to others. */
MUST_USE enum err listener_bind(struct listener *l, const char *name, const struct config_listen *where,
                                const struct config_socket *socket, int type, struct fault *why);
/* A reload makes the new inputs while the old ones still listen. An old one whose settings changed lends its socket:
 * a listener_bind() for the same address shares it, so that the address is never without its listener. The end says
 * whether the switch took place: the socket's file, if there is one, then belongs to the heir, with the owner and mode
 * that its settings ask for. Between the two calls no lender may go. */
void listener_lend(struct listener *l, const char *name);
void listener_lend_end(bool switched);
/* Removes our own socket file; the descriptor is closed by whoever owns it by then. */
void listener_remove_file(struct listener *l);

#endif
