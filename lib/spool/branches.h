/* branches: where starts, failures and deliveries part from the plain way, each counted in the simulators' builds.
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
    X(CONTROL_SEGMENT_SKIPPED, "rotation: takes an eventless one's place")                                 \
    X(PREPARED_DROPPED, "failure: a prepared file given up")                                               \
    X(DAMAGE_PASSED, "read: damage passed over")                                                           \
    X(SEGMENT_REMOVED, "read: a segment removed behind our back")                                          \
    X(BLOCK_UNREADABLE, "scan: a block that cannot be read")                                               \
    X(DOUBT, "scan: a doubtful place read again")                                                          \
    X(RESYNC_LINK, "scan: good again at the next link")                                                    \
    X(RESYNC_SEARCH, "scan: good again further on")                                                        \
    X(RESYNC_NONE, "scan: nothing good behind a bad place")                                                \
    X(QUARANTINED_RANGE, "quarantine: a damaged range")                                                    \
    X(QUARANTINED_FILE, "quarantine: a whole file")                                                        \
    X(PREPARE_RETRY, "house: no next segment, later again")                                                \
    X(SMALL_SEGMENT, "house: a small segment on a full disk")                                              \
    X(BACKLOG_FORGOTTEN, "house: a segment told the page cache to forget")                                 \
    X(RELEASE_RETRY, "house: a finished segment not deleted")                                              \
    X(BATCH_SHRUNK, "batch: members lost while it was open")                                               \
    X(BATCH_END_LOST, "batch: its end was lost")                                                           \
    X(BATCH_MADE_SHORT, "batch: members lost while it was made")                                           \
    X(LETTERS_RETRY, "letters: not written, later again")                                                  \
    X(LETTERS_NOT_DELETED, "letters: a file not deleted")                                                  \
    X(LETTERS_PASSED, "letters: a damaged one passed over")                                                \
    X(OUT_NEW_IDENTITY, "output: an identity given up, the events in a new batch")                         \
    X(OUT_GONE_READ, "output: a batch that was gone when it had been read")                                \
    X(OUT_READ_AGAIN, "output: a batch that could not be read, later again")                               \
    X(OUT_CUT_UNSENT, "output: too large even compressed, cut before it was sent")                         \
    X(OUT_UNHELD, "output: read again after a partition was held")                                         \
    X(OUT_CAME_BACK, "output: an outage or hold has ended")                                                \
    X(OUT_ONCE_MORE, "output: sent again at once on another connection")                                   \
    X(OUT_GAVE_UP, "output: given up")                                                                     \
    X(OUT_SHRUNK, "output: an open batch that lost members")                                               \
    X(OUT_CANCELLED, "output: a batch lost in flight, cancelled")                                          \
    X(OUT_LOST_WORKING, "output: a batch lost while it was read or encoded")                               \
    X(OUT_LOST_WAITING, "output: a waiting batch lost")                                                    \
    X(OUT_DROP_REFUSED, "output: a drop refused, read again later")                                        \
    X(OUT_ASSIGN_REFUSED, "output: an assignment refused")                                                 \
    X(OUT_REWIND, "output: what is unassigned is read again")                                              \
    X(OUT_ADOPTED, "output: an open batch of the last process taken over")

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
