/* output_host: one configured output as the agent sees it: its directory and spool (disk_uv), its core
 * (lib/output) and its connections (upstream). It carries the core's wishes out and decides nothing that
 * the core could decide. */
#ifndef PENSTOCK_AGENT_OUTPUT_HOST_H
#define PENSTOCK_AGENT_OUTPUT_HOST_H

#include "agent/disk_uv.h"
#include "agent/reread.h"
#include "agent/upstream.h"
#include "lib/base/log.h"
#include "lib/output/output.h"

#include <uv.h>

#define KEPT_ANSWER_BYTES (16 * 1024)

struct agent;
struct config_edition;
struct config_output;
struct dead_ask;

/* One or two outputs have 4 MiB each for their tail cache, and for their payloads; more of them share these. */
#define OUTPUTS_CACHE_BYTES (2u << 20)
#define OUTPUTS_PAYLOAD_BYTES (6u << 20)
#define OUTPUT_SHARE_BYTES_MIN (512u << 10)

/* LEAVING: a reload put it away; what is in flight may still end, nothing new is sent. */
enum output_host_phase { HOST_OPENING, HOST_OPEN, HOST_FAILED, HOST_LEAVING, HOST_CLOSING, HOST_CLOSED };

struct output_host {
    struct agent *agent;
    const char *name;
    char subject[80];             /* "output telemetry", for diagnostics */
    uint64_t name_hash;           /* tells apart what outputs remember of one id */
    const struct config_output *config;
    struct config_edition *edition; /* what `config` is part of */
    struct output_config core_config;
    struct api_settings *settings; /* the core's, for rendering */
    enum output_host_phase phase;
    struct fault fault;           /* with HOST_FAILED */
    struct disk_uv disk;
    struct spool *spool;
    struct output *core;
    struct upstream *upstream;
    struct {                      /* an answer of the upstream that may be given again (api_exchange.pass_keep_us) */
        struct bytes body;
        char type[64];
        uint64_t until_us, of;    /* 0: none; the hash of the credentials that it was given to */
    } kept_answer;
    struct list waiting;          /* intake parts that wait for their commit, by seq */
    struct list dirty;            /* in agent->dirty_outputs */
    struct list node;             /* in agent->outputs_going */
    uv_timer_t timer;             /* .data == this: the core's wake */
    uint64_t timer_at_us;
    unsigned encodings_out, handles_open;
    struct reread reread;         /* secrets and certificates */
    struct ration {
        uint64_t since_us, left_out;
        unsigned count;
    } changes, holds; /* told since then: an upstream that goes to and fro neither fills the log nor hides a hold */
    bool acked_moved, room_moved;
    bool upstream_gone, spool_closing, spool_opened;
    /* a reload */
    struct output_host *before;   /* has the same directory; this one opens when that one is closed */
    struct output_status *stand_in; /* what `before` last said, shown until this one is open */
    uint64_t leaving_until_us;
    struct dead_ask *dead_ask;    /* admin_dead.c's, NULL: none is under way */
    bool going;                   /* in agent->outputs_going: freed when closed */
};

/* Makes the output; `config` is part of `edition`, which the host takes. */
MUST_USE enum err output_host_new(struct agent *a, struct config_edition *edition, const struct config_output *config,
                                  struct output_host **ret, struct fault *why);
/* Starts its recovery; agent_output_news() follows. */
void output_host_open(struct output_host *h);
/* The agent's settings that outputs depend on have changed. */
void output_host_set_min_free(struct output_host *h, uint64_t min_free);
/* See output_status(); of one that is being reopened, the state before. */
void output_host_status(const struct output_host *h, struct output_status *ret);
/* See output_room(); also says why not, in words for the sender. */
enum err output_host_room(struct output_host *h, unsigned count, uint64_t bytes, const char **ret_text);
/* Likewise for output_reserve(). */
enum err output_host_reserve(struct output_host *h, unsigned count, uint64_t bytes, uint64_t *ret_reserved,
                             const char **ret_text);
void output_host_touch(struct output_host *h); /* step it in this turn */
void output_host_turn(struct output_host *h);
/* Closes connections, then the spool, then the handles; agent_output_news() with HOST_CLOSED follows. */
void output_host_close(struct output_host *h);
/* A reload puts it away: it sends nothing new, has a moment for what is in flight, then closes. Senders that wait for
 * their commit get their answer. The caller has taken it out of agent->outputs and put it into outputs_going. */
void output_host_leave(struct output_host *h);
void output_host_free(struct output_host *h); /* after HOST_CLOSED */

#endif
