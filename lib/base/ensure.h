/* ensure: assertions that stay on in production.
 *
 * A wrong state must not reach the disk: the process ends with a line that names the place, and the
 * supervisor restarts it into recovery, which is the path that the crash tests exercise. Only our own
 * mistakes are ensured, never bytes from outside, configuration, a full disk or a peer.
 * ensure_slow() is for checks that cost too much for every event; it is compiled in with sanitizers
 * and in the simulator (PENSTOCK_SLOW_CHECKS). */
#ifndef PENSTOCK_BASE_ENSURE_H
#define PENSTOCK_BASE_ENSURE_H

_Noreturn void ensure_failed(const char *expression, const char *file, int line);

#define ensure(x) ((x) ? (void)0 : ensure_failed(#x, __FILE__, __LINE__))

#ifdef PENSTOCK_SLOW_CHECKS
#define ensure_slow(x) ensure(x)
#else
#define ensure_slow(x) ((void)0)
#endif

/* Marks a branch that cannot happen but is handled all the same, so that coverage does not excuse it. */
#define NEVER(x) (x)

#endif
