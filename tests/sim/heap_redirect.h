/* Forced into every source of lib/ when it is compiled for the simulator: its memory comes from heap.h. */
#include <stdlib.h>

#include "tests/sim/heap.h"

#define malloc(size) sim_malloc(size)
#define calloc(count, size) sim_calloc(count, size)
#define realloc(old, size) sim_realloc(old, size)
#define free(p) sim_free(p)
