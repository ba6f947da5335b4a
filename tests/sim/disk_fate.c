/* disk_fate: what a kill, a power loss, the kernel's own write-back and decay do to the disk of disk.h. */
#include "tests/sim/disk_inner.h"

#include "lib/base/ensure.h"

#include <stdlib.h>
#include <string.h>

struct disk *disk_new(void)
{
    struct disk *d = calloc(1, sizeof(*d));
    if (d == NULL)
        abort();
    disk_reset(d);
    return d;
}

void disk_reset(struct disk *d)
{
    disk_kill(d);
    for (unsigned k = 0; k < d->inode_count; k++) {
        d->inodes[k].cache_links = d->inodes[k].platter_links = 0;
        inode_drop_if_unused(d, &d->inodes[k]);
    }
    d->inode_count = 0; /* choices depend on it */
    d->cache.count = d->platter.count = 0;
    d->dirop_count = 0;
    d->capacity = UINT64_C(1) << 40;
    d->type = 0xEF53;
    d->ordered = true;
    d->lying = false;
    d->resyncs = 0;
    d->gate = (struct disk_gate){0};
}

void disk_free(struct disk *d)
{
    disk_reset(d);
    for (unsigned k = 0; k < INODES_MAX; k++) {
        free(d->inodes[k].pages);
        free(d->inodes[k].allocated);
        free(d->inodes[k].touched);
    }
    while (d->spares != NULL) {
        struct page *p = d->spares;
        d->spares = p->spare;
        free(p);
    }
    free(d);
}

void disk_set_capacity(struct disk *d, uint64_t bytes)
{
    d->capacity = bytes;
}

void disk_set_ordered(struct disk *d, bool ordered)
{
    d->ordered = ordered;
}

void disk_set_type(struct disk *d, uint64_t type)
{
    d->type = type;
}

void disk_set_lying(struct disk *d, bool lying)
{
    d->lying = lying;
}

void disk_set_gate(struct disk *d, const struct disk_gate *gate)
{
    d->gate = gate == NULL ? (struct disk_gate){0} : *gate;
}

void disk_kill(struct disk *d)
{
    for (unsigned fd = 0; fd < FDS_MAX; fd++) {
        if (!d->fds[fd].open)
            continue;
        struct inode *i = &d->inodes[d->fds[fd].inode];
        d->fds[fd].open = false;
        i->opens--;
        inode_drop_if_unused(d, i);
    }
    for (unsigned k = 0; k < d->inode_count; k++)
        d->inodes[k].sync_failed = false;
}

/* --- power loss ------------------------------------------------------------------------------------- */

enum outcome { GOES, STAYS, TEARS };

/* `at` is the number of the pending thing, counted over the whole disk. */
static enum outcome draw(const struct disk_fate *fate, unsigned at, bool may_tear, struct decisions *luck)
{
    switch (fate->kind) {
    case FATE_LOST:
        return GOES;
    case FATE_KEPT:
        return STAYS;
    case FATE_ONE_LOST:
        return at == fate->one ? GOES : STAYS;
    case FATE_ONE_KEPT:
        return at == fate->one ? STAYS : GOES;
    case FATE_ONE_GARBAGE:
        return at != fate->one ? STAYS : may_tear ? TEARS : GOES;
    case FATE_RANDOM:
        break;
    }
    uint32_t choice = decide(luck, 8);
    return choice < 3 ? STAYS : choice < 6 || !may_tear ? GOES : TEARS;
}

/* A sector that was being written when the power went: noise, or a part of each version. */
static void tear(uint8_t *platter, const uint8_t *cache, uint64_t seed)
{
    size_t cut = (size_t)(seed >> 40) % DISK_SECTOR;
    if (seed >> 32 & 1) {
        memcpy(platter, cache, cut);
        return;
    }
    for (size_t k = 0; k < DISK_SECTOR; k += 8) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        memcpy(platter + k, &seed, sizeof(seed));
    }
}

static void lose_page(struct page *p, const struct disk_fate *fate, unsigned *at, struct decisions *luck)
{
    for (unsigned s = 0; s < SECTORS; s++) {
        uint8_t *platter = p->platter + s * DISK_SECTOR, *cache = p->cache + s * DISK_SECTOR;
        if (p->pending >> s & 1) {
            enum outcome o = draw(fate, (*at)++, true, luck);
            if (o == STAYS)
                memcpy(platter, cache, DISK_SECTOR);
            else if (o == TEARS)
                tear(platter, cache, decide_seed(luck) ^ *at);
        }
        if ((p->pending | p->strayed) >> s & 1)
            memcpy(cache, platter, DISK_SECTOR);
    }
    p->pending = p->strayed = 0;
    p->listed = false;
}

/* Nothing may show beyond the end of a file when it grows again. */
static void clear_beyond(struct inode *i, uint64_t size)
{
    for (uint64_t index = size / DISK_PAGE; index < i->page_cap; index++) {
        struct page *p = i->pages[index];
        if (p == NULL)
            continue;
        size_t from = index == size / DISK_PAGE ? (size_t)(size % DISK_PAGE) : 0;
        memset(p->cache + from, 0, DISK_PAGE - from);
        memset(p->platter + from, 0, DISK_PAGE - from);
        if (from == 0)
            p->written = 0;
    }
}

static void lose_size(struct disk *d, struct inode *i, const struct disk_fate *fate, unsigned *at,
                      struct decisions *luck)
{
    if (i->size == i->platter_size)
        return;
    if (draw(fate, (*at)++, false, luck) == GOES)
        i->size = i->platter_size;
    i->platter_size = i->size;
    clear_beyond(i, i->size);
    inode_count_pages(d, i);
}

/* What hung below a directory that was not kept is gone with it. */
static void drop_orphans(struct disk *d, struct names *n)
{
    for (unsigned k = 0; k < n->count;) {
        const char *slash = strrchr(n->at[k].text, '/');
        char dir[DISK_NAME_MAX] = "";
        if (slash != NULL)
            memcpy(dir, n->at[k].text, (size_t)(slash - n->at[k].text));
        if (slash == NULL || names_find(n, dir) != NULL)
            k++;
        else
            names_drop(d, n, n->at[k].text);
    }
}

static void lose_names(struct disk *d, const struct disk_fate *fate, unsigned *at, struct decisions *luck)
{
    bool cut = false;
    for (unsigned k = 0; k < d->dirop_count; k++) {
        bool goes = draw(fate, (*at)++, false, luck) == GOES;
        cut = d->ordered ? cut || goes : goes;
        if (!cut)
            dirop_apply(d, &d->platter, &d->dirops[k]);
    }
    drop_orphans(d, &d->platter);
    while (d->cache.count > 0)
        names_drop(d, &d->cache, d->cache.at[0].text);
    for (unsigned k = 0; k < d->platter.count; k++)
        names_put(d, &d->cache, d->platter.at[k].text, d->platter.at[k].inode);
    for (unsigned k = 0; k < d->dirop_count; k++) {
        if (d->dirops[k].inode < 0)
            continue;
        d->inodes[d->dirops[k].inode].platter_links--;
        inode_drop_if_unused(d, &d->inodes[d->dirops[k].inode]);
    }
    d->dirop_count = 0;
}

void disk_power_loss(struct disk *d, struct disk_fate fate, struct decisions *luck)
{
    disk_kill(d);
    unsigned at = 0;
    for (unsigned k = 0; k < d->inode_count; k++) {
        struct inode *i = &d->inodes[k];
        for (size_t t = 0; i->used && t < i->touched_count; t++)
            if (i->pages[i->touched[t]] != NULL)
                lose_page(i->pages[i->touched[t]], &fate, &at, luck);
        i->touched_count = 0;
    }
    for (unsigned k = 0; k < d->inode_count; k++)
        if (d->inodes[k].used)
            lose_size(d, &d->inodes[k], &fate, &at, luck);
    lose_names(d, &fate, &at, luck);
}

unsigned disk_pending_sectors(const struct disk *d)
{
    unsigned count = 0;
    for (unsigned k = 0; k < d->inode_count; k++) {
        const struct inode *i = &d->inodes[k];
        for (size_t t = 0; i->used && t < i->touched_count; t++)
            count += (unsigned)__builtin_popcount(i->pages[i->touched[t]]->pending);
    }
    return count;
}

unsigned disk_pending(const struct disk *d)
{
    unsigned count = disk_pending_sectors(d) + d->dirop_count;
    for (unsigned k = 0; k < d->inode_count; k++)
        count += d->inodes[k].used && d->inodes[k].size != d->inodes[k].platter_size;
    return count;
}

/* --- write-back and decay --------------------------------------------------------------------------- */

void disk_write_back(struct disk *d, struct decisions *luck)
{
    if (d->inode_count == 0)
        return;
    struct inode *i = &d->inodes[decide(luck, d->inode_count)];
    if (!i->used || i->touched_count == 0)
        return;
    size_t first = decide(luck, (uint32_t)i->touched_count);
    uint8_t mask = (uint8_t)(1 + decide(luck, 255));
    for (size_t t = first; t < i->touched_count && t < first + 4; t++) {
        struct page *p = i->pages[i->touched[t]];
        for (unsigned s = 0; s < SECTORS; s++)
            if ((p->pending & mask) >> s & 1)
                memcpy(p->platter + s * DISK_SECTOR, p->cache + s * DISK_SECTOR, DISK_SECTOR);
        p->pending &= (uint8_t)~mask;
    }
}

static struct inode *pick_file(struct disk *d, const char *prefix, struct decisions *luck,
                               const char **ret_name)
{
    unsigned count = 0;
    for (unsigned k = 0; k < d->cache.count; k++)
        count += d->cache.at[k].inode >= 0 && strncmp(d->cache.at[k].text, prefix, strlen(prefix)) == 0;
    if (count == 0)
        return NULL;
    unsigned chosen = decide(luck, count);
    for (unsigned k = 0; k < d->cache.count; k++) {
        if (d->cache.at[k].inode < 0 || strncmp(d->cache.at[k].text, prefix, strlen(prefix)) != 0)
            continue;
        if (chosen-- == 0) {
            *ret_name = d->cache.at[k].text;
            return &d->inodes[d->cache.at[k].inode];
        }
    }
    return NULL;
}

static struct page *pick_written(struct inode *i, struct decisions *luck, unsigned *ret_sector)
{
    unsigned pages = 0;
    for (uint64_t k = 0; k < i->page_cap && k * DISK_PAGE < i->size; k++)
        pages += i->pages[k] != NULL && i->pages[k]->written != 0;
    if (pages == 0)
        return NULL;
    unsigned chosen = decide(luck, pages);
    struct page *p = NULL;
    for (uint64_t k = 0; p == NULL; k++)
        if (i->pages[k] != NULL && i->pages[k]->written != 0 && chosen-- == 0)
            p = i->pages[k];
    unsigned sector = decide(luck, SECTORS);
    while (!(p->written >> sector & 1))
        sector = (sector + 1) % SECTORS;
    *ret_sector = sector;
    return p;
}

bool disk_rot(struct disk *d, const char *prefix, enum disk_rot kind, struct decisions *luck)
{
    const char *name = NULL;
    struct inode *i = pick_file(d, prefix, luck, &name);
    unsigned sector = 0;
    struct page *p = i == NULL ? NULL : pick_written(i, luck, &sector);
    if (p == NULL)
        return false;
    uint8_t *cache = p->cache + sector * DISK_SECTOR, *platter = p->platter + sector * DISK_SECTOR;
    unsigned bit = decide(luck, DISK_SECTOR * 8), other = decide(luck, SECTORS);
    switch (kind) {
    case ROT_BIT:
        cache[bit / 8] ^= (uint8_t)(1u << bit % 8);
        platter[bit / 8] ^= (uint8_t)(1u << bit % 8);
        break;
    case ROT_ZERO_SECTOR:
        memset(cache, 0, DISK_SECTOR);
        memset(platter, 0, DISK_SECTOR);
        break;
    case ROT_STRAY_SECTOR: /* a write that landed here was meant for another place */
        memmove(cache, p->cache + other * DISK_SECTOR, DISK_SECTOR);
        memmove(platter, p->platter + other * DISK_SECTOR, DISK_SECTOR);
        break;
    case ROT_UNREADABLE:
        p->unreadable |= (uint8_t)(1u << sector);
        break;
    case ROT_KINDS:
        break;
    }
    return true;
}

bool disk_vandalise(struct disk *d, const char *prefix, struct decisions *luck)
{
    const char *name = NULL;
    struct inode *i = pick_file(d, prefix, luck, &name);
    if (i == NULL)
        return false;
    uint32_t how = decide(luck, 3);
    if (how == 0) {
        char gone[DISK_NAME_MAX];
        memcpy(gone, name, sizeof(gone));
        names_drop(d, &d->platter, gone);
        names_drop(d, &d->cache, gone);
        return true;
    }
    i->size = how == 1 ? 0 : i->size * decide(luck, 16) / 16;
    i->platter_size = i->size;
    clear_beyond(i, i->size);
    inode_count_pages(d, i);
    return true;
}

/* --- questions -------------------------------------------------------------------------------------- */

uint64_t disk_used(const struct disk *d)
{
    return d->pages_used * DISK_PAGE;
}

uint64_t disk_used_by(const struct disk *d, const char *prefix)
{
    uint64_t pages = 0;
    for (unsigned k = 0; k < d->cache.count; k++)
        if (d->cache.at[k].inode >= 0 && strncmp(d->cache.at[k].text, prefix, strlen(prefix)) == 0)
            pages += d->inodes[d->cache.at[k].inode].allocated_pages;
    return pages * DISK_PAGE;
}

unsigned disk_files(const struct disk *d)
{
    unsigned count = 0;
    for (unsigned k = 0; k < d->cache.count; k++)
        count += d->cache.at[k].inode >= 0;
    return count;
}

unsigned disk_descriptors(const struct disk *d)
{
    unsigned count = 0;
    for (unsigned fd = 0; fd < FDS_MAX; fd++)
        count += d->fds[fd].open;
    return count;
}

unsigned disk_resyncs(const struct disk *d)
{
    return d->resyncs;
}

static uint64_t mix(uint64_t h, const void *from, size_t len)
{
    const uint8_t *at = from;
    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        h = (h ^ word) * UINT64_C(0x9FB21C651E98DF25);
        h ^= h >> 32;
    }
    for (; len > 0; at++, len--)
        h = (h ^ *at) * UINT64_C(0x100000001B3);
    return h;
}

uint64_t disk_hash(const struct disk *d)
{
    uint64_t h = 1;
    for (unsigned k = 0; k < d->cache.count; k++) {
        h = mix(h, d->cache.at[k].text, strlen(d->cache.at[k].text));
        if (d->cache.at[k].inode < 0)
            continue;
        const struct inode *i = &d->inodes[d->cache.at[k].inode];
        h = mix(h, &i->size, sizeof(i->size));
        for (size_t p = 0; p < i->page_cap; p++)
            if (i->pages[p] != NULL) {
                h = mix(h, i->pages[p]->cache, DISK_PAGE);
                h = mix(h, i->pages[p]->platter, DISK_PAGE);
            }
    }
    return h;
}
