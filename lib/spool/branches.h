/* branches: where starts and failures part from the plain way, each counted in the simulator's build.
 *
 * A recovery that never met a damaged STATE proves nothing about damaged STATEs: so the simulator prints how often its
 * runs took each of these ways (sim --stats), and whoever reads a report sees what it rests on. Everywhere else
 * REACHED() is nothing. */
#ifndef PENSTOCK_SPOOL_BRANCHES_H
#define PENSTOCK_SPOOL_BRANCHES_H

#include <stdint.h>

#define BRANCHES(X)                                                                                        \
    X(START_OF_NOTHING, "start: no segment")                                                               \
    X(START_CLEAN, "start: after an orderly stop")                                                         \
    X(START_UNCLEAN, "start: after a death")                                                               \
    X(FORMAT_REBUILT, "identity: made again from headers")                                                 \
    X(FORMAT_FOREIGN, "identity: of another spool")                                                        \
    X(HEADER_SECOND, "header: its second copy")                                                            \
    X(HEADER_DAMAGED, "header: no copy good")                                                              \
    X(HEADER_BACKWARDS, "header: numbers go back")                                                         \
    X(RECYCLE_CUT, "header: a recycling cut short")                                                        \
    X(FILE_PREPARED, "segment: holds nothing yet")                                                         \
    X(SEGMENTS_MISSING, "segment: missing with pending events")                                            \
    X(STATE_NEWEST, "state: of the newest segment")                                                        \
    X(STATE_EARLIER, "state: of an earlier segment")                                                       \
    X(STATE_NONE, "state: none is usable")                                                                 \
    X(STATE_SECOND, "state: its second copy")                                                              \
    X(OPS_CONTRADICT, "ops: contradict each other")                                                        \
    X(GAP, "events: a hole, counted as lost")                                                              \
    X(NUMBERS_AHEAD, "events: headers know more than STATE")                                               \
    X(DAMAGE_SEALED, "damage: in a sealed segment")                                                        \
    X(DAMAGE_PROVEN, "damage: in the newest, before proven")                                               \
    X(TAIL_EMPTY, "torn: nothing behind the last commit")                                                  \
    X(TORN, "torn: a frame that is half there")                                                            \
    X(TORN_KEPT_BEHIND, "torn: a weaker mode looks behind it")                                             \
    X(COPIED, "settle: unattested events copied")                                                          \
    X(COPIED_NONE, "settle: nothing to copy")                                                              \
    X(PLACE_TAKEN, "settle: takes an eventless one's place")                                               \
    X(PREPARED_USED, "settle: into a prepared file")                                                       \
    X(SMALL_FILE, "settle: on a full disk")                                                                \
    X(SETTLE_FAILED, "settle: failed")                                                                     \
    X(START_REFUSED, "start: failed before")                                                               \
    X(LETTERS_ORPHANED, "letters: written, never counted")                                                 \
    X(LETTERS_LOST, "letters: counted, not there")                                                         \
    X(LETTERS_ADOPTED, "letters: there, not counted")                                                      \
    X(LETTERS_UNUSABLE_FILE, "letters: a file that cannot be used")                                        \
    X(SYNC_SWITCH, "failure: rewrite into another file")                                                   \
    X(SYNC_SWITCH_DONE, "failure: rewritten")                                                              \
    X(NO_SPACE_RETRY, "failure: no space, the same again")                                                 \
    X(STORAGE_FAILED, "failure: given up")                                                                 \
    X(DAMAGE_READ, "read: damage met by a reader")                                                         \
    X(READ_REPEATED, "read: repeated after an error")                                                      \
    X(CONTROL_SEGMENT_SKIPPED, "rotation: takes an eventless one's place")

#define BRANCH_NUMBER(name, text) BRANCH_##name,
enum branch_reached { BRANCHES(BRANCH_NUMBER) BRANCH_COUNT };
#undef BRANCH_NUMBER

#ifdef PENSTOCK_BUGS
extern uint64_t penstock_reached[BRANCH_COUNT];
#define REACHED(name) (penstock_reached[BRANCH_##name]++)
#else
#define REACHED(name) ((void)0)
#endif

#endif
