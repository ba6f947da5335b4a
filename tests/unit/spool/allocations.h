/* allocations: the program's own malloc, which counts, and fails when a test says so.
 *
 * Only where ALLOCATIONS_COUNTED is defined: a sanitizer brings a malloc of its own. */
#ifndef PENSTOCK_TESTS_SPOOL_ALLOCATIONS_H
#define PENSTOCK_TESTS_SPOOL_ALLOCATIONS_H

#include <setjmp.h>
#include <stdbool.h>

#if !defined(__SANITIZE_ADDRESS__) && defined(__GLIBC__) && !defined(__clang__)
#define ALLOCATIONS_COUNTED 1

extern struct allocations {
    bool counting;
    unsigned long count;
    unsigned long fail_at; /* the allocation that fails when `count` gets there; 0: none */
    jmp_buf death;         /* where a process goes that ends for want of memory, once fail_at is set */
} allocations;
#endif

#endif
