/* ip: IP addresses as text and as the 4 or 16 bytes that certificates and sockets hold. No names, no zones.
 */
#ifndef PENSTOCK_BASE_IP_H
#define PENSTOCK_BASE_IP_H

#include "lib/base/bytes.h"

/* Reads "192.0.2.7" or "2001:db8::7" (RFC 4291 2.2, without brackets or zone) into `ret`, network order.
 * Returns 4 or 16, the bytes written, or 0 when `text` is not an address. Strict: four decimal parts
 * without leading zeros, as "010" is 8 to some readers and 10 to others. */
size_t ip_parse(struct span text, uint8_t ret[16]);

/* 127.0.0.0/8, ::1, or an IPv4 loopback address mapped into IPv6. */
bool ip_is_loopback(const uint8_t *address, size_t len);

#endif
