/* tally: see tally.h. */
#include "lib/event/tally.h"

#include "lib/base/crc32c.h"
#include "lib/base/hash.h"

#include <stdlib.h>

#define MINUTE_S 60
#define HOUR_S 3600
#define THIRD_S (3 * 3600)
#define DAY_S 86400
#define MAGIC UINT64_C(0x31594c4c41544e50) /* the last digit is the version */
#define TYPE_SEED UINT64_C(0x7479)
#define SUBJECT_SEED UINT64_C(0x7375)

void tally_init(struct tally *t)
{
    memset(t, 0, sizeof *t);
}

/* --- types ---------------------------------------------------------------------------------------------- */

/* Cut at TALLY_NAME_BYTES, but never within a UTF-8 character. */
static void set_name(struct tally_type *c, struct span type)
{
    size_t len = type.len;
    if (len > TALLY_NAME_BYTES) {
        len = TALLY_NAME_BYTES;
        while (len > 0 && (type.at[len] & 0xc0) == 0x80)
            len--;
    }
    memset(c->name, 0, sizeof c->name);
    if (len > 0)
        memcpy(c->name, type.at, len);
    c->name_len = (uint8_t)len;
}

/* The sketch changed under the tags: another period, or a file was read. */
static void read_tags(struct tally *t, const struct tally_types *s)
{
    for (unsigned i = 0; i < TALLY_TYPES; i++)
        t->tags[i] = (uint16_t)(s->types[i].hash >> 48);
    t->tags_period = s->period;
    t->least = 0;
    t->cursor = 0;
}

/* All tags are compared, which the compiler does many at a time; few are equal by chance. */
static struct tally_type *find_type(struct tally *t, struct tally_types *s, uint64_t hash)
{
    uint8_t *hint = &t->hint[hash & 0xff];
    if (*hint < s->used && s->types[*hint].hash == hash)
        return &s->types[*hint];
    uint16_t tag = (uint16_t)(hash >> 48);
    unsigned found = 0;
    for (unsigned i = 0; i < TALLY_TYPES; i++)
        found += t->tags[i] == tag;
    for (unsigned i = 0; found > 0 && i < s->used; i++)
        if (s->types[i].hash == hash) {
            *hint = (uint8_t)i;
            return &s->types[i];
        }
    return NULL;
}

/* Counters only grow: one that still has the smallest count of before is the smallest now, and is found going round. */
static struct tally_type *smallest_type(struct tally *t, struct tally_types *s)
{
    for (unsigned tried = 0; tried < s->used; tried++) {
        unsigned at = t->cursor;
        t->cursor = at + 1 == s->used ? 0 : at + 1;
        if (s->types[at].count == t->least)
            return &s->types[at];
    }
    struct tally_type *smallest = &s->types[0];
    for (unsigned i = 1; i < s->used; i++)
        if (s->types[i].count < smallest->count)
            smallest = &s->types[i];
    t->least = smallest->count;
    t->cursor = (unsigned)(smallest - s->types);
    return smallest;
}

static struct tally_type *add_type(struct tally *t, struct tally_types *s, struct span type, uint64_t count)
{
    uint64_t hash = hash64(type, TYPE_SEED);
    struct tally_type *c = find_type(t, s, hash);
    if (c != NULL) {
        c->count += count;
        return c;
    }
    if (s->used < TALLY_TYPES) {
        c = &s->types[s->used++];
        *c = (struct tally_type){.hash = hash, .count = count};
    } else {
        c = smallest_type(t, s);
        c->hash = hash;
        c->over = c->count;
        c->count += count;
    }
    t->tags[c - s->types] = (uint16_t)(hash >> 48);
    set_name(c, type);
    return c;
}

static uint64_t load8(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

/* Names of types are short; the last eight bytes may overlap those before. */
static bool same_name(struct span a, struct span b)
{
    if (a.len != b.len)
        return false;
    if (a.at == b.at)
        return true;
    if (a.len < 8) {
        for (size_t i = 0; i < a.len; i++)
            if (a.at[i] != b.at[i])
                return false;
        return true;
    }
    for (size_t i = 0; i + 8 < a.len; i += 8)
        if (load8(a.at + i) != load8(b.at + i))
            return false;
    return load8(a.at + a.len - 8) == load8(b.at + a.len - 8);
}

static int by_count(const void *a, const void *b)
{
    const struct tally_type *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return x->hash < y->hash ? -1 : x->hash > y->hash;
}

unsigned tally_top(const struct tally *t, uint64_t now_s, struct tally_type *into, unsigned room,
                   uint64_t *ret_since_s)
{
    struct tally_type all[TALLY_TYPE_PERIODS * TALLY_TYPES];
    unsigned count = 0;
    uint64_t now = now_s / TALLY_TYPE_PERIOD_S;
    uint64_t first = now >= TALLY_TYPE_PERIODS - 1 ? now - (TALLY_TYPE_PERIODS - 1) : 0;
    *ret_since_s = first * TALLY_TYPE_PERIOD_S;
    for (unsigned p = 0; p < TALLY_TYPE_PERIODS; p++) {
        const struct tally_types *s = &t->kept.types[p];
        if (s->period < first || s->period > now)
            continue;
        for (unsigned i = 0; i < s->used; i++) {
            unsigned k = 0;
            while (k < count && all[k].hash != s->types[i].hash)
                k++;
            if (k == count) {
                all[count++] = s->types[i];
                continue;
            }
            all[k].count += s->types[i].count;
            all[k].over += s->types[i].over;
        }
    }
    qsort(all, count, sizeof all[0], by_count);
    if (count > room)
        count = room;
    memcpy(into, all, count * sizeof all[0]);
    return count;
}

/* --- subjects ------------------------------------------------------------------------------------------- */

static void add_subject(struct tally_subjects *s, uint64_t hash)
{
    unsigned at = (unsigned)(hash >> 53);                                              /* 11 bits choose the register */
    uint8_t rank = (uint8_t)(__builtin_clzll(hash << 11 | UINT64_C(1) << 10) + 1);     /* at most 54 */
    if (s->registers[at] < rank)
        s->registers[at] = rank;
}

/* Of x >= 1, without libm: halved until it is near 1, then the series of artanh. */
static double natural_log(double x)
{
    double whole = 0;
    while (x > 1.5) {
        x /= 2;
        whole += 0.69314718055994530942;
    }
    double z = (x - 1) / (x + 1), power = z, sum = 0;
    for (unsigned k = 1; k < 40; k += 2) {
        sum += power / k;
        power *= z * z;
    }
    return whole + 2 * sum;
}

static uint64_t unite(const struct tally_subjects *ring, unsigned slots, uint64_t now)
{
    uint8_t most[TALLY_REGISTERS] = {0};
    uint64_t first = now >= slots - 1 ? now - (slots - 1) : 0;
    for (unsigned i = 0; i < slots; i++) {
        if (ring[i].period < first || ring[i].period > now)
            continue;
        for (unsigned r = 0; r < TALLY_REGISTERS; r++)
            if (most[r] < ring[i].registers[r])
                most[r] = ring[i].registers[r];
    }
    const double m = TALLY_REGISTERS;
    double sum = 0;
    unsigned empty = 0;
    for (unsigned r = 0; r < TALLY_REGISTERS; r++) {
        sum += 1.0 / (double)(UINT64_C(1) << most[r]);
        empty += most[r] == 0;
    }
    double guess = 0.7213 / (1 + 1.079 / m) * m * m / sum;
    if (guess <= 2.5 * m && empty > 0)
        guess = m * natural_log(m / empty); /* few: how many registers are still empty says it better */
    return (uint64_t)(guess + 0.5);
}

uint64_t tally_subjects_day(const struct tally *t, uint64_t now_s)
{
    return unite(t->kept.thirds, TALLY_THIRDS, now_s / THIRD_S);
}

uint64_t tally_subjects_week(const struct tally *t, uint64_t now_s)
{
    return unite(t->kept.days, TALLY_DAYS, now_s / DAY_S);
}

/* --- volume --------------------------------------------------------------------------------------------- */

static void add_volume(struct tally_kept *k, uint32_t count, uint64_t now_s)
{
    uint32_t minute = (uint32_t)(now_s / MINUTE_S);
    struct tally_minute *m = &k->minutes[minute % TALLY_MINUTES];
    if (m->period != minute)
        *m = (struct tally_minute){.period = minute};
    m->count = m->count > UINT32_MAX - count ? UINT32_MAX : m->count + count;
    uint64_t hour = now_s / HOUR_S;
    struct tally_count *h = &k->hours[hour % TALLY_HOURS];
    if (h->period != hour)
        *h = (struct tally_count){.period = hour};
    h->count += count;
}

uint64_t tally_minute(const struct tally *t, uint64_t now_s, unsigned ago)
{
    uint32_t minute = (uint32_t)(now_s / MINUTE_S) - ago;
    const struct tally_minute *m = &t->kept.minutes[minute % TALLY_MINUTES];
    return ago < TALLY_MINUTES && m->period == minute ? m->count : 0;
}

uint64_t tally_hour(const struct tally *t, uint64_t now_s, unsigned ago)
{
    uint64_t hour = now_s / HOUR_S - ago;
    const struct tally_count *h = &t->kept.hours[hour % TALLY_HOURS];
    return ago < TALLY_HOURS && h->period == hour ? h->count : 0;
}

void tally_begin(struct tally *t, uint64_t now_s, struct tally_turn *ret)
{
    struct tally_kept *k = &t->kept;
    uint64_t period = now_s / TALLY_TYPE_PERIOD_S, third = now_s / THIRD_S, day = now_s / DAY_S;
    *ret = (struct tally_turn){.tally = t,
                               .now_s = now_s,
                               .types = &k->types[period % TALLY_TYPE_PERIODS],
                               .third = &k->thirds[third % TALLY_THIRDS],
                               .day = &k->days[day % TALLY_DAYS]};
    if (ret->types->period != period) {
        memset(ret->types, 0, sizeof *ret->types);
        ret->types->period = period;
    }
    if (t->tags_period != period)
        read_tags(t, ret->types);
    if (ret->third->period != third)
        *ret->third = (struct tally_subjects){.period = third};
    if (ret->day->period != day)
        *ret->day = (struct tally_subjects){.period = day};
}

static __attribute__((noinline)) void count_subject(const struct tally_turn *turn, struct span subject)
{
    uint64_t hash = hash64(subject, SUBJECT_SEED);
    add_subject(turn->third, hash);
    add_subject(turn->day, hash);
}

/* Apart, so that a run of one type does not pay for the frame of this. */
static __attribute__((noinline)) void count_other_type(struct tally_turn *turn, struct span type, struct span subject,
                                                       uint32_t count)
{
    turn->last = add_type(turn->tally, turn->types, type, count);
    turn->last_type = type;
    if (subject.at != NULL)
        count_subject(turn, subject);
}

void tally_count(struct tally_turn *turn, struct span type, struct span subject, uint32_t count)
{
    turn->count += count;
    if (turn->last == NULL || !same_name(type, turn->last_type)) {
        count_other_type(turn, type, subject, count);
        return;
    }
    turn->last->count += count;
    if (subject.at != NULL)
        count_subject(turn, subject);
}

void tally_end(struct tally_turn *turn)
{
    struct tally_kept *k = &turn->tally->kept;
    if (turn->count == 0)
        return;
    if (k->began_s == 0)
        k->began_s = turn->now_s;
    k->total += turn->count;
    add_volume(k, turn->count, turn->now_s);
}

void tally_add(struct tally *t, struct span type, struct span subject, uint32_t count, uint64_t now_s)
{
    struct tally_turn turn;
    tally_begin(t, now_s, &turn);
    tally_count(&turn, type, subject, count);
    tally_end(&turn);
}

/* --- the blob ------------------------------------------------------------------------------------------- */

struct head {
    uint64_t magic;
    uint32_t size, crc;
};

_Static_assert(sizeof(struct head) + sizeof(struct tally_kept) == TALLY_BLOB_BYTES, "the head has no padding");

void tally_save(const struct tally *t, uint8_t into[TALLY_BLOB_BYTES])
{
    struct head head = {.magic = MAGIC, .size = sizeof t->kept, .crc = crc32c(0, &t->kept, sizeof t->kept)};
    memcpy(into, &head, sizeof head);
    memcpy(into + sizeof head, &t->kept, sizeof t->kept);
}

/* What the code indexes or shifts by must be in range whatever a file says. */
static bool in_range(const struct tally_kept *k)
{
    bool good = true;
    for (unsigned p = 0; p < TALLY_TYPE_PERIODS; p++) {
        good &= k->types[p].used <= TALLY_TYPES;
        for (unsigned i = 0; i < TALLY_TYPES; i++)
            good &= k->types[p].types[i].name_len <= TALLY_NAME_BYTES;
    }
    for (unsigned i = 0; i < TALLY_THIRDS; i++)
        for (unsigned r = 0; r < TALLY_REGISTERS; r++)
            good &= k->thirds[i].registers[r] <= 54;
    for (unsigned i = 0; i < TALLY_DAYS; i++)
        for (unsigned r = 0; r < TALLY_REGISTERS; r++)
            good &= k->days[i].registers[r] <= 54;
    return good;
}

enum err tally_load(struct tally *t, struct span blob, struct fault *why)
{
    struct head head;
    tally_init(t);
    if (blob.len != TALLY_BLOB_BYTES)
        return fault_set(why, ERR_CORRUPT, "statistics of %zu bytes instead of %zu", blob.len, TALLY_BLOB_BYTES);
    memcpy(&head, blob.at, sizeof head);
    if (head.magic != MAGIC || head.size != sizeof t->kept)
        return fault_set(why, ERR_CORRUPT, "statistics of another version or machine");
    if (head.crc != crc32c(0, blob.at + sizeof head, sizeof t->kept))
        return fault_set(why, ERR_CORRUPT, "statistics with a wrong checksum");
    memcpy(&t->kept, blob.at + sizeof head, sizeof t->kept);
    if (in_range(&t->kept))
        return OK;
    tally_init(t);
    return fault_set(why, ERR_CORRUPT, "statistics with values out of range");
}
