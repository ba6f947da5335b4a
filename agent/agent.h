/* agent: the daemon's one object: the loop, the configuration, the inputs and outputs, and its life.
 *
 * Everything runs on one libuv loop. Callbacks note what happened; agent_turn(), which runs once before each
 * wait for I/O, decides: first the outputs that have news take their steps, then the senders whose events
 * are durable are answered, then each connection's answers leave in one write. */
#ifndef PENSTOCK_AGENT_AGENT_H
#define PENSTOCK_AGENT_AGENT_H

#include "agent/disk_lanes.h"
#include "agent/flusher.h"
#include "agent/headline.h"
#include "agent/input_hold.h"
#include "agent/intake.h"
#include "agent/routes.h"
#include "lib/base/budget.h"
#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "lib/base/rng.h"
#include "lib/event/recent.h"

#include <uv.h>

struct admin;
struct config;
struct config_edition;
struct decoder;
struct input;
struct orphans;
struct output_host;
struct reload;
struct signals;
struct tally_store;
struct tap;
struct uuid_source;

enum agent_phase { AGENT_STARTING, AGENT_RUNNING, AGENT_STOPPING, AGENT_STOPPED };

struct agent {
    uv_loop_t *loop;
    struct clock clock;
    struct entropy entropy;
    struct rng rng;
    struct uuid_source *uuids;
    struct recent recent;         /* ids of the last minutes */
    struct budget small_bodies;   /* memory of HTTP requests, over all inputs: see input_http.h */
    struct budget large_bodies;
    struct budget working;
    struct input_hold hold;       /* halves of messages on stream sockets */
    struct decoder *decoder;      /* of request bodies */
    struct config *config;        /* in force; edition->config */
    struct config_edition *edition, *first_edition;
    const char *config_path;
    char name[256];               /* agent.name; stays in place when a reload changes it */
    const char *data_dir;         /* as it was at the start: the lock is on this one */
    int data_dir_fd, lock_fd;
    enum agent_phase phase;
    bool storage_failed;          /* an output's storage failed: exit 74 at the end */
    int exit_code;
    uint64_t started_us, started_wall_ns;

    struct output_host **outputs; /* by the order of the configuration; routes name them by index */
    unsigned output_count;
    struct list outputs_going;    /* outputs that a reload removed, until they are closed */
    struct list inputs;           /* by the order of the configuration */
    struct list inputs_going;     /* inputs that a reload removed, until their last sender is gone */
    struct reload *reload;
    struct orphans *orphans;
    struct agent_routes routes;
    struct intake intake;
    struct admin *admin;
    struct tally_store *tally;    /* what the admin page shows */
    struct tap *tap;              /* NULL: nobody looks on */
    struct headline headline;     /* what the service manager was told last */

    struct disk_lanes disk_lanes; /* what the spools may take of the pool's threads */
    struct list dirty_outputs;    /* have news: output_host_turn() this turn */
    struct flush_queue flushes;   /* connections with answers to write */
    uv_prepare_t prepare;         /* .data == this agent: agent_turn() */
    uv_idle_t wake;               /* runs while a turn is due, so that the loop does not wait */
    uv_timer_t second;            /* once a second: dates, watchdog, statistics, expiry checks */
    uv_timer_t watchdog;          /* only under a service manager that wants it */
    uv_timer_t drain;             /* the end of drain_timeout */
    uint64_t seconds;             /* since the start */
    bool drained, inputs_closing;
    struct signals *signals;
    char http_date[32];           /* "Sun, 06 Nov 1994 08:49:37 GMT", of this second */
};

/* Runs the daemon until it has stopped; takes the configuration over. Returns the process's exit code. */
int agent_run(struct config *config, const char *config_path);

void agent_stop(struct agent *a);  /* SIGTERM: refuse, drain, leave */
void agent_stop_with(struct agent *a, int exit_code);
void agent_stop_step(struct agent *a);
void agent_input_gone(struct agent *a, struct input *in);
void agent_flush(struct agent *a); /* send what is pending now */
void agent_wake(struct agent *a);  /* there is something to do in the next turn */
/* The one output of that api; NULL when there is none or several. */
struct output_host *agent_output_of(const struct agent *a, const struct api *api);
/* Its settings; NULL likewise. */
const struct api_settings *agent_settings_of(const struct agent *a, const struct api *api);
/* An output finished opening, failed, or closed. */
void agent_output_news(struct agent *a, struct output_host *h);
/* Brings every input's counters up to date: some of them (the kernel's own drops) are only read when asked for. */
void agent_refresh(struct agent *a);

/* Why events cannot be accepted durably now, one line per reason; false when they can. */
bool agent_not_ready(const struct agent *a, struct bytes *ret_reasons);

#endif
