/* heap: see heap.h. */
#include "tests/sim/heap.h"

#include <stdlib.h>
#include <string.h>

struct block {
    struct list all;
    size_t size;
    struct heap *owner;
};
_Static_assert(sizeof(struct block) % 16 == 0, "blocks stay aligned");

static struct heap first = {.blocks = {&first.blocks, &first.blocks}};
static struct heap *present = &first;

void heap_init(struct heap *h)
{
    *h = (struct heap){0};
    list_init(&h->blocks);
}

void heap_use(struct heap *h)
{
    present = h;
}

static void *enlist(struct block *b, size_t size)
{
    if (b == NULL)
        abort();
    b->size = size;
    b->owner = present;
    list_append(&present->blocks, &b->all);
    present->count++;
    present->bytes += size;
    return b + 1;
}

static void delist(struct block *b)
{
    list_remove(&b->all);
    b->owner->count--;
    b->owner->bytes -= b->size;
}

void *sim_malloc(size_t size)
{
    struct block *b = malloc(sizeof(*b) + size);
    /* What the program does not set is never zero by luck, and always the same. */
    if (b != NULL && size <= 4096)
        memset(b + 1, 0xA7, size);
    return enlist(b, size);
}

void *sim_calloc(size_t count, size_t size)
{
    return enlist(calloc(1, sizeof(struct block) + count * size), count * size);
}

void *sim_realloc(void *old, size_t size)
{
    if (old == NULL)
        return sim_malloc(size);
    struct block *b = (struct block *)old - 1;
    delist(b);
    return enlist(realloc(b, sizeof(*b) + size), size);
}

void sim_free(void *p)
{
    if (p == NULL)
        return;
    struct block *b = (struct block *)p - 1;
    delist(b);
    free(b);
}

size_t heap_blocks(void)
{
    return present->count;
}

size_t heap_bytes(void)
{
    return present->bytes;
}

void heap_drop(void)
{
    while (!list_empty(&present->blocks))
        sim_free(CONTAINER_OF(list_first(&present->blocks), struct block, all) + 1);
}
