/* dial: blocking connections for commands, to a Unix socket or to the host of a URL. */
#ifndef PENSTOCK_AGENT_DIAL_H
#define PENSTOCK_AGENT_DIAL_H

#include "lib/http/url.h"

#include <sys/types.h>

/* A connected descriptor, or -1 with errno. */
int dial_unix(const char *path);
/* Tries every address; a connected descriptor, or -1 with a text that says why. */
int dial_url(const struct url *url, char *text, size_t text_max);
/* So long may one read or write take; 0: for ever. False with errno. */
bool dial_timeout(int fd, unsigned seconds);
/* All of it, whatever signals come. False with errno. */
bool dial_write(int fd, struct span data);
/* recv(2), again after signals. */
ssize_t dial_read(int fd, void *into, size_t max);

#endif
