/* ensure: see ensure.h. The message goes to standard error without any of our own buffering. */
#include "lib/base/ensure.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void ensure_failed(const char *expression, const char *file, int line)
{
    (void)fprintf(stderr, "penstock: %s:%d: ensure(%s) failed\n", file, line, expression);
    abort();
}
