/* system: what the cores are handed from the machine: clocks, randomness, the data directory's lock. */
#ifndef PENSTOCK_AGENT_SYSTEM_H
#define PENSTOCK_AGENT_SYSTEM_H

#include "lib/base/clock.h"
#include "lib/base/fault.h"
#include "lib/base/rng.h"

#include <stdbool.h>

/* CLOCK_MONOTONIC and CLOCK_REALTIME. */
struct clock system_clock(void);
/* getrandom(2), drawn in blocks of 4 KiB. One thread only. */
struct entropy system_entropy(void);

/* Opens data_dir, making it (0700) when it is missing but its parent is there, and takes its lock for the
 * life of the process (flock on data_dir/LOCK; the pid inside is information only). ERR_IN_USE names the
 * holder's pid. With make == false a missing directory is ERR_NOT_FOUND,
 * and one on a read-only file system is locked as it is. */
MUST_USE enum err system_lock_data_dir(const char *path, bool make, int *ret_dir_fd, int *ret_lock_fd, struct fault *why);

#endif
