/* script: short scenarios, each of which the exhaustive mode lets die at every disk call. */
#ifndef PENSTOCK_SIM_SCRIPT_H
#define PENSTOCK_SIM_SCRIPT_H

#include "tests/sim/world.h"

struct script_op {
    enum {
        DO_APPEND,     /* n records */
        DO_APPEND_BIG, /* one of n bytes */
        DO_ACKED,      /* wait until all is answered for */
        DO_DRAINED,    /* wait until nothing is pending */
        DO_WAIT,       /* n microseconds */
        DO_DOWN,       /* the upstream answers no more; and again */
        DO_UP,
        DO_FAIL_SYNC, /* the next n syncs fail */
        DO_FULL,      /* the disk has n bytes left */
        DO_ROOM,
        DO_STOP, /* in order, and start again */
        DO_SET_USER,
        DO_DROP, /* one record that was read */
        DO_REWIND,
    } what;
    uint32_t n;
};

struct script {
    const char *name;
    void (*knobs)(struct knobs *k); /* NULL: as they are */
    const struct script_op *ops;
    unsigned count;
};

extern const struct script scripts[];
extern const unsigned script_count;

#endif
