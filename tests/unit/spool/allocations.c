/* allocations: see allocations.h. */
#include "tests/unit/spool/allocations.h"

#ifdef ALLOCATIONS_COUNTED
#include "lib/base/ensure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
struct allocations allocations;

static bool fails(void)
{
    return allocations.counting && ++allocations.count == allocations.fail_at;
}

void *malloc(size_t n)
{
    return fails() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t m)
{
    return fails() ? NULL : __libc_calloc(n, m);
}

void *realloc(void *at, size_t n)
{
    return fails() ? NULL : __libc_realloc(at, n);
}

/* Stands in for lib/base/ensure.c: the end of a process that has no memory is a thing that tests look at. */
_Noreturn void ensure_failed(const char *expression, const char *file, int line)
{
    if (allocations.counting && allocations.fail_at != 0 && strstr(expression, "out of memory") != NULL) {
        allocations.counting = false;
        longjmp(allocations.death, 1);
    }
    (void)fprintf(stderr, "%s:%d: ensure(%s) failed\n", file, line, expression);
    abort();
}
#endif
