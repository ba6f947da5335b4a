/* confine: what the process may ask of the kernel once it runs, and what a core file of it may hold. */
#ifndef PENSTOCK_AGENT_CONFINE_H
#define PENSTOCK_AGENT_CONFINE_H

#include "lib/base/fault.h"

/* Secrets and events live in our memory: no core file holds any of it. Call before threads are started. */
void confine_memory(void);

/* From here on, in all threads and for good, the kernel serves only the system calls that an agent needs. Another one
 * fails with EPERM, which its caller reports; one that only an intruder would make (another program, another process's
 * memory, mounts, modules) ends the process with a line on standard error and exit code 70. ERR_UNSUPPORTED: built
 * without libseccomp, or with a sanitizer; ERR_IO: the kernel will not have it. */
MUST_USE enum err confine_system_calls(struct fault *why);

#endif
