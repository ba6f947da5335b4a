/* heap: the memory of the simulated process.
 *
 * The code under test is compiled with malloc and friends renamed to these (heap_redirect.h). All its
 * blocks hang on one list, so that a process that "dies" in the middle of anything gives its memory back,
 * and one that ends in order can be shown to have leaked nothing. */
#ifndef PENSTOCK_SIM_HEAP_H
#define PENSTOCK_SIM_HEAP_H

#include "lib/base/list.h"

#include <stddef.h>

/* One process's. There is one to begin with, for programs that simulate one process at a time. */
struct heap {
    struct list blocks;
    size_t count, bytes;
};
void heap_init(struct heap *h);
void heap_use(struct heap *h); /* from now on memory comes from this one, and the calls below mean it */

void *sim_malloc(size_t size);
void *sim_calloc(size_t count, size_t size);
void *sim_realloc(void *old, size_t size);
void sim_free(void *p);

size_t heap_blocks(void); /* not freed yet */
size_t heap_bytes(void);
void heap_drop(void); /* the process is gone: frees all */

#endif
