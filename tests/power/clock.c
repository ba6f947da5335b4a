/* clock: a wall clock that is wrong by PENSTOCK_CLOCK_SHIFT seconds, for one process (LD_PRELOAD).
 *
 * A whole machine's clock is not a test's to set, and time namespaces shift every clock but this one. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *ret)
{
    int r = (int)syscall(SYS_clock_gettime, clock, ret);
    const char *shift = getenv("PENSTOCK_CLOCK_SHIFT");
    if (r == 0 && clock == CLOCK_REALTIME && shift != NULL)
        ret->tv_sec += strtol(shift, NULL, 10);
    return r;
}
