/* bugs: deliberate mistakes, to prove that the simulator would find them.
 *
 * Only the simulator's build defines PENSTOCK_BUGS; everywhere else BUG(n) is a constant 0 and the code
 * behind it is gone. Numbers and names are listed once, in tests/sim/prove_bugs. */
#ifndef PENSTOCK_SPOOL_BUGS_H
#define PENSTOCK_SPOOL_BUGS_H

#ifdef PENSTOCK_BUGS
extern unsigned penstock_bug; /* the one that is switched on; 0: none */
#define BUG(n) (penstock_bug == (n))
extern unsigned penstock_bug_uses; /* of all outputs of a process together, which ought to share nothing */
#define BUG_USES() (penstock_bug_uses++)
#else
#define BUG(n) 0
#define BUG_USES() 0
#endif

#endif
