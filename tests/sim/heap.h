/* heap: the memory of the simulated process.
 *
 * The code under test is compiled with malloc and friends renamed to these (heap_redirect.h). All its
 * blocks hang on one list, so that a process that "dies" in the middle of anything gives its memory back,
 * and one that ends in order can be shown to have leaked nothing. */
#ifndef PENSTOCK_SIM_HEAP_H
#define PENSTOCK_SIM_HEAP_H

#include <stddef.h>

void *sim_malloc(size_t size);
void *sim_calloc(size_t count, size_t size);
void *sim_realloc(void *old, size_t size);
void sim_free(void *p);

size_t heap_blocks(void); /* not freed yet */
size_t heap_bytes(void);
void heap_drop(void); /* the process is gone: frees all */

#endif
