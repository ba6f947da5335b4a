/* systemd: the service manager's side of sd_notify(3) and sd_listen_fds(3), without its library: one datagram
 * to $NOTIFY_SOCKET (a leading '@' means an abstract address), and descriptors from 3 on whose names are in
 * $LISTEN_FDNAMES. Outside systemd all of it does nothing. */
#ifndef PENSTOCK_AGENT_SYSTEMD_H
#define PENSTOCK_AGENT_SYSTEMD_H

#include "lib/base/fault.h"

#include <stdbool.h>
#include <stdint.h>

/* Lines joined by '\n': "READY=1\nSTATUS=…". A manager that does not listen is ignored. */
void systemd_notify(const char *format, ...) PRINTF_LIKE(1, 2);
/* Is there a manager to be told? */
bool systemd_listens(void);
/* STATUS= alone, unless the manager was told the same before. */
void systemd_status(const char *format, ...) PRINTF_LIKE(1, 2);

/* Microseconds between two WATCHDOG=1 that the manager wants, half of its limit; 0: no watchdog for us. */
uint64_t systemd_watchdog_us(void);

/* Takes over the inherited descriptors; call once, early. */
void systemd_inherit(void);
/* A descriptor of the inherited socket of that name and type (SOCK_STREAM, SOCK_DGRAM), or -1; the caller's to close. The
 * socket itself is kept, so that an input which a reload removes finds it again when it returns; "admin", which stays open
 * until the process ends, is handed out once. */
int systemd_socket(const char *name, int type);
/* Names that nobody took, one by one, for a warning; NULL at the end. They are closed. */
const char *systemd_unclaimed(void);

#endif
