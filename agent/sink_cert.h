/* sink_cert: a certificate authority of one's own and a server certificate made by it, for development. */
#ifndef PENSTOCK_AGENT_SINK_CERT_H
#define PENSTOCK_AGENT_SINK_CERT_H

#include "lib/base/fault.h"

#include <stddef.h>

struct sink_cert {
    char ca[4096], cert[4096], key[4096]; /* paths */
};

/* DIR/ca.pem, DIR/cert.pem and DIR/key.pem (0600; the directory 0700): used when all three are there, else made. The
 * certificate is good for localhost, 127.0.0.1, ::1 and this host's name, for ten years; the authority's key is
 * thrown away. ERR_IO or ERR_CONFIG. */
MUST_USE enum err sink_cert_prepare(const char *dir, struct sink_cert *ret, struct fault *why);

#endif
