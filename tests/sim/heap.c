/* heap: see heap.h. */
#include "tests/sim/heap.h"

#include "lib/base/list.h"

#include <stdlib.h>
#include <string.h>

struct block {
    struct list all;
    size_t size;
    size_t padding; /* keeps the caller's bytes aligned to 16 */
};
_Static_assert(sizeof(struct block) % 16 == 0, "blocks stay aligned");

static struct list blocks = {&blocks, &blocks};
static size_t block_count, byte_count;

static void *enlist(struct block *b, size_t size)
{
    if (b == NULL)
        abort();
    b->size = size;
    list_append(&blocks, &b->all);
    block_count++;
    byte_count += size;
    return b + 1;
}

static void delist(struct block *b)
{
    list_remove(&b->all);
    block_count--;
    byte_count -= b->size;
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
    return block_count;
}

size_t heap_bytes(void)
{
    return byte_count;
}

void heap_drop(void)
{
    while (!list_empty(&blocks))
        sim_free(CONTAINER_OF(list_first(&blocks), struct block, all) + 1);
}
