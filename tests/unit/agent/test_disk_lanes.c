/* However many outputs there are, their disk work leaves threads to others, and none of it is forgotten. */
#include "agent/disk_lanes.h"

#include <criterion/criterion.h>

#define JOBS 50

Test(disk_lanes, bound_what_runs_and_start_the_rest_in_order)
{
    for (unsigned kind = 0; kind < SPOOL_JOB_KINDS; kind++) {
        struct disk_lanes lanes;
        struct list nodes[JOBS];
        unsigned running = 0, width = 0, started = 0;
        disk_lanes_init(&lanes);
        for (unsigned i = 0; i < JOBS; i++) {
            list_init(&nodes[i]);
            running += disk_lanes_enter(&lanes, kind, &nodes[i]);
        }
        width = running;
        cr_assert(width > 0 && width < DISK_LANES_TOTAL);
        for (started = running; running > 0;) {
            struct list *next = disk_lanes_leave(&lanes, kind);
            running--;
            if (next != NULL) {
                cr_assert_eq(next, &nodes[started], "the one that has waited longest");
                started++;
                running++;
            }
            cr_assert_leq(running, width);
        }
        cr_assert_eq(started, JOBS);
        cr_assert(disk_lanes_enter(&lanes, kind, &nodes[0]), "free again");
    }
}

Test(disk_lanes, stuck_reads_do_not_hold_up_commits)
{
    struct disk_lanes lanes;
    struct list nodes[JOBS], commit;
    disk_lanes_init(&lanes);
    for (unsigned i = 0; i < JOBS; i++) {
        list_init(&nodes[i]);
        (void)disk_lanes_enter(&lanes, i % 2 == 0 ? SPOOL_JOB_READ : SPOOL_JOB_HOUSE, &nodes[i]);
    }
    list_init(&commit);
    cr_assert(disk_lanes_enter(&lanes, SPOOL_JOB_COMMIT, &commit));
}
