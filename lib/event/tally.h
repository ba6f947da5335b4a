/* tally: bounded statistics of accepted events: how many per minute and per hour, which types are the most
 * frequent, how many subjects were different. Beside the straight line: the intake counts here what it has
 * appended, the admin page shows it.
 *
 * Time is cut into periods. Each kind of count has a fixed ring of slots, and a slot carries the number of
 * the period that it counts (Unix seconds / length): a slot that carries another number than the one asked
 * for is old and counts as empty. So nothing has to be advanced or cleared, and a clock that jumps does no
 * harm beyond the periods it jumped over.
 *
 *   volume    1440 minutes and 168 hours, one counter each: exact
 *   types     three periods of 8 hours, in each a space-saving sketch of 64 counters (Metwally, Agrawal,
 *             El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams", 2005): a
 *             type beyond the 64 takes over the smallest counter, and `over` says by how much its count may
 *             be too high
 *   subjects  8 periods of 3 hours and 7 days, in each a HyperLogLog (Flajolet et al., 2007) of 2048
 *             registers: a standard error of 2.3 %; the registers of several periods unite by their maximum
 *
 * Everything lies in one block of fixed size without pointers, which is also its form on disk. */
#ifndef PENSTOCK_EVENT_TALLY_H
#define PENSTOCK_EVENT_TALLY_H

#include "lib/base/bytes.h"

#define TALLY_MINUTES 1440
#define TALLY_HOURS 168
#define TALLY_TYPES 64
#define TALLY_TYPE_PERIODS 3
#define TALLY_TYPE_PERIOD_S (8 * 3600)
#define TALLY_NAME_BYTES 63 /* of a type; longer ones are shown cut, but told apart */
#define TALLY_REGISTERS 2048
#define TALLY_THIRDS 8 /* of three hours */
#define TALLY_DAYS 7

struct tally_count {
    uint64_t period, count;
};

struct tally_minute {
    uint32_t period, count; /* stays at its maximum */
};

struct tally_type {
    uint64_t hash, count, over;
    uint8_t name_len;
    char name[TALLY_NAME_BYTES];
};

struct tally_types {
    uint64_t period;
    uint32_t used, reserved;
    struct tally_type types[TALLY_TYPES];
};

struct tally_subjects {
    uint64_t period;
    uint8_t registers[TALLY_REGISTERS];
};

/* Embedded by its owner; use the functions. All zero is an empty one. */
struct tally {
    struct tally_kept {
        uint64_t total;                              /* since the file began */
        uint64_t began_s;                            /* Unix time of the first event; 0: none yet */
        struct tally_minute minutes[TALLY_MINUTES];
        struct tally_count hours[TALLY_HOURS];
        struct tally_types types[TALLY_TYPE_PERIODS];
        struct tally_subjects thirds[TALLY_THIRDS];
        struct tally_subjects days[TALLY_DAYS];
    } kept;
    uint8_t hint[256];                               /* by a byte of a type's hash: where it was last found */
    /* So that a type which is not there is not looked for in the sketch itself: 16 bits of each one's hash, for the
     * sketch of this period (0: none); and no counter is smaller than `least`, looked for from `cursor` on. */
    uint16_t tags[TALLY_TYPES];
    uint64_t tags_period, least;
    unsigned cursor;
};

_Static_assert(sizeof(struct tally) < 64 * 1024, "the statistics' bound");

void tally_init(struct tally *t);

/* Counts `count` events of this type, all with this subject (.at NULL: none), at this Unix time. */
void tally_add(struct tally *t, struct span type, struct span subject, uint32_t count, uint64_t now_s);

/* The same for the many events of a request: what depends on the time is found once, the volume is added at the end. */
struct tally_turn {
    struct tally *tally;
    uint64_t now_s;
    uint32_t count; /* so far */
    struct tally_types *types;
    struct tally_subjects *third, *day;
    struct tally_type *last; /* where the last one counted; NULL: there is none */
    struct span last_type;   /* its name, as it was given */
};
/* What was given stays in place until the end. */
void tally_begin(struct tally *t, uint64_t now_s, struct tally_turn *ret);
void tally_count(struct tally_turn *turn, struct span type, struct span subject, uint32_t count);
void tally_end(struct tally_turn *turn);

/* Events of the minute or hour that lies `ago` before the present one; 0 is the present one. */
uint64_t tally_minute(const struct tally *t, uint64_t now_s, unsigned ago);
uint64_t tally_hour(const struct tally *t, uint64_t now_s, unsigned ago);

/* The most frequent types of the last 16 to 24 hours, most frequent first; returns how many. *ret_since_s is the
 * Unix time at which that span begins. */
unsigned tally_top(const struct tally *t, uint64_t now_s, struct tally_type *into, unsigned room,
                   uint64_t *ret_since_s);

/* About how many different subjects: of the last 21 to 24 hours, and of the last 6 to 7 days. */
uint64_t tally_subjects_day(const struct tally *t, uint64_t now_s);
uint64_t tally_subjects_week(const struct tally *t, uint64_t now_s);

/* The blob: a head of 16 bytes (magic and version, size, CRC-32C of what follows), then the block as it lies in
 * memory. It is read by the machine that wrote it; any other finds another magic or size. */
#define TALLY_BLOB_BYTES (16 + sizeof(struct tally_kept))
void tally_save(const struct tally *t, uint8_t into[TALLY_BLOB_BYTES]);
/* ERR_CORRUPT, with the tally empty, when these are not the bytes of such a blob. */
MUST_USE enum err tally_load(struct tally *t, struct span blob, struct fault *why);

#endif
