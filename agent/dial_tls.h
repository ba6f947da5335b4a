/* dial_tls: TLS over a blocking connection of dial.h, for commands. */
#ifndef PENSTOCK_AGENT_DIAL_TLS_H
#define PENSTOCK_AGENT_DIAL_TLS_H

#include "lib/tls/tls.h"

#include <sys/types.h>

/* The handshake with `host`, whose name or address is checked. NULL with a text that says why. The descriptor stays the
 * caller's; tls_session_free() lets go of the session. */
struct tls_session *dial_tls(int fd, struct tls_context *context, struct span host, char *text, size_t text_max);
/* As dial_write() and dial_read(): false or -1 with errno, EPROTO when it is the protocol's; 0 at the end. */
bool dial_tls_write(struct tls_session *s, int fd, struct span data);
ssize_t dial_tls_read(struct tls_session *s, int fd, void *into, size_t max);

#endif
