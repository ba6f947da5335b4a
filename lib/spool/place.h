/* place: what the kind of file system under a spool means for its promises. */
#ifndef PENSTOCK_SPOOL_PLACE_H
#define PENSTOCK_SPOOL_PLACE_H

#include <stdbool.h>
#include <stdint.h>

struct place {
    const char *name; /* of the file system */
    const char *lost; /* which promise does not hold there */
    bool local; /* good enough for require_local_fs: only space is in doubt, not what was answered for */
};

/* `type` is f_type of statfs(2). NULL: nothing speaks against it, as far as is known. */
const struct place *place_of(uint64_t type);

#endif
