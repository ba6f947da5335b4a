/* output_host: see output_host.h. */
#include "agent/output_host.h"

#include "agent/admin_dead.h"
#include "agent/agent.h"
#include "agent/edition.h"
#include "agent/output_config.h"
#include "lib/base/ensure.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/config/config.h"
#include "lib/event/recent.h"

#include <stdio.h>
#include <stdlib.h>

#define CHANGES_MAX 30
#define LEAVE_US (2 * US_PER_S) /* what is in flight when a reload puts an output away has so long to end */

/* --- the core's wishes ---------------------------------------------------------------------------------- */

struct encode_work {
    uv_work_t req; /* .data == this work */
    struct output_host *host;
    struct batch *batch;
};

static void on_encode(uv_work_t *req)
{
    struct encode_work *w = req->data;
    batch_encode_run(w->batch);
}

static void finish_close(struct output_host *h);

static void on_encode_done(uv_work_t *req, int status)
{
    struct encode_work *w = req->data;
    struct output_host *h = w->host;
    ensure(status == 0); /* nobody cancels encodings */
    h->encodings_out--;
    output_encoded(h->core, w->batch);
    free(w);
    output_host_touch(h);
    finish_close(h);
}

static void encode(struct output_host *h, struct batch *batch)
{
    struct encode_work *w = must_alloc(sizeof *w);
    w->req.data = w;
    w->host = h;
    w->batch = batch;
    h->encodings_out++;
    int r = uv_queue_work(h->agent->loop, &w->req, on_encode, on_encode_done);
    ensure(r == 0);
}

static void carry_out(struct output_host *h, struct output_wish wish)
{
    switch (wish.kind) {
    case WISH_ENCODE:
        encode(h, wish.batch);
        return;
    case WISH_SEND:
        upstream_send(h->upstream, wish.batch);
        return;
    case WISH_PROBE:
        upstream_probe(h->upstream);
        return;
    case WISH_CANCEL:
        upstream_cancel(h->upstream, wish.batch);
        return;
    case WISH_SECRETS:
        output_config_reread(h);
        return;
    case WISH_REBUILD:
        upstream_rebuild(h->upstream);
        return;
    case WISH_NOTHING:
        return;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct output_host *h = timer->data;
    if (h->phase != HOST_OPEN && h->phase != HOST_LEAVING && h->phase != HOST_CLOSING)
        return;
    h->timer_at_us = 0;
    output_host_touch(h);
}

static void arm_timer(struct output_host *h)
{
    uint64_t at = output_wake_us(h->core);
    if (at == h->timer_at_us)
        return;
    h->timer_at_us = at;
    if (at == 0) {
        (void)uv_timer_stop(&h->timer);
        return;
    }
    uint64_t now = clock_mono_us(&h->agent->clock);
    uv_update_time(h->agent->loop);
    int r = uv_timer_start(&h->timer, on_timer, at <= now ? 0 : (at - now) / 1000 + 1, 0);
    ensure(r == 0);
}

/* At most CHANGES_MAX lines of a ration are told in a minute; the first one after that says how many were not. */
static bool may_tell(const struct output_host *h, struct ration *r, uint64_t *ret_left_out)
{
    uint64_t now = clock_mono_us(&h->agent->clock);
    *ret_left_out = 0;
    if (r->since_us == 0 || now - r->since_us >= 60 * US_PER_S) {
        *ret_left_out = r->left_out;
        *r = (struct ration){.since_us = now};
    }
    if (++r->count <= CHANGES_MAX)
        return true;
    r->left_out++;
    return false;
}

static void tell_news(struct output_host *h)
{
    struct output_news news;
    while (output_news_next(h->core, &news)) {
        uint64_t left_out = 0;
        if (h->phase == HOST_LEAVING && news.kind == NEWS_STATE)
            continue; /* nobody paused it: it waits for its last answers */
        bool change = news.kind == NEWS_STATE || news.kind == NEWS_DEGRADED || news.kind == NEWS_HELD;
        if (change && !may_tell(h, news.kind == NEWS_HELD ? &h->holds : &h->changes, &left_out))
            continue;
        news.left_out += left_out;
        enum log_level level = news.kind == NEWS_STATE  ? LOG_INFO
                               : news.kind == NEWS_HELD ? LOG_ERROR
                                                        : LOG_WARN;
        if (news.left_out > 0)
            log_line(level, h->subject, "%s (%llu more were left out)", news.text, (unsigned long long)news.left_out);
        else
            log_line(level, h->subject, "%s", news.text);
    }
}

void output_host_touch(struct output_host *h)
{
    if (list_empty(&h->dirty))
        list_append(&h->agent->dirty_outputs, &h->dirty);
}

void output_host_turn(struct output_host *h)
{
    list_remove(&h->dirty);
    if (h->acked_moved) {
        h->acked_moved = false;
        intake_acked(&h->agent->intake, h);
    }
    if (h->phase != HOST_OPEN && h->phase != HOST_LEAVING)
        return;
    if (h->room_moved) {
        h->room_moved = false;
        intake_room(&h->agent->intake);
    }
    for (;;) {
        struct output_wish wish = output_step(h->core);
        if (wish.kind == WISH_NOTHING)
            break;
        carry_out(h, wish);
    }
    arm_timer(h);
    tell_news(h);
    if (h->phase == HOST_LEAVING && output_idle(h->core))
        output_host_close(h);
}

/* --- the spool's notes ---------------------------------------------------------------------------------- */

static void on_opened(struct output_host *h)
{
    uint64_t key, content, wall_ns, now_wall = clock_wall_ns(&h->agent->clock);
    uint64_t now_us = clock_mono_us(&h->agent->clock);
    h->phase = HOST_OPEN;
    h->room_moved = true; /* senders may wait since a reload */
    free(h->stand_in);
    h->stand_in = NULL;
    while (output_recent_next(h->core, &key, &content, &wall_ns)) {
        uint64_t age_us = wall_ns >= now_wall ? 0 : (now_wall - wall_ns) / 1000;
        key ^= h->name_hash;
        recent_put(&h->agent->recent, key == 0 ? 1 : key, content, now_us > age_us ? now_us - age_us : 0, now_us);
    }
    agent_output_news(h->agent, h);
}

static void on_failed(struct output_host *h, const struct fault *fault)
{
    bool opening = h->phase == HOST_OPENING;
    h->fault = *fault;
    if (opening)
        h->phase = HOST_FAILED;
    log_error(h->subject, "storage failed: %s; events are refused", fault->text);
    intake_fail(&h->agent->intake, h, COND_FAILED, "storage failed");
    agent_output_news(h->agent, h);
}

static void on_note(void *ctx, const struct spool_note *note)
{
    struct output_host *h = ctx;
    output_note(h->core, note);
    switch (note->kind) {
    case NOTE_OPENED:
        on_opened(h);
        break;
    case NOTE_ACKED:
        h->acked_moved = true;
        break;
    case NOTE_ROOM:
        h->room_moved = true;
        break;
    case NOTE_STATE:
        if (note->fault != NULL && note->fault->text[0] != '\0')
            log_warn(h->subject, "%s", note->fault->text);
        break;
    case NOTE_WARNING:
        log_warn(h->subject, "%s", note->fault->text);
        break;
    case NOTE_FAILED:
        on_failed(h, note->fault);
        break;
    case NOTE_CLOSED:
        finish_close(h);
        return;
    default:
        break;
    }
    output_host_touch(h);
}

/* --- room ----------------------------------------------------------------------------------------------- */

static enum err not_open(const struct output_host *h, const char **ret_text)
{
    if (h->phase == HOST_OPENING) {
        *ret_text = h->agent->phase == AGENT_RUNNING ? "an output is being reloaded" : "the agent is starting";
        return ERR_AGAIN;
    }
    *ret_text = "storage failed";
    return h->phase == HOST_OPEN ? OK : ERR_CLOSED;
}

static const char *room_text(enum err err)
{
    switch (err) {
    case OK:
        return NULL;
    case ERR_FULL:
        return "the spool of an output is full";
    case ERR_AGAIN:
        return "the disk is behind";
    case ERR_TOO_BIG:
        return "larger than the spool can take";
    default:
        return "storage failed";
    }
}

enum err output_host_room(struct output_host *h, unsigned count, uint64_t bytes, const char **ret_text)
{
    enum err err = not_open(h, ret_text);
    if (err != OK)
        return err;
    err = output_room(h->core, count, bytes);
    *ret_text = room_text(err);
    return err;
}

enum err output_host_reserve(struct output_host *h, unsigned count, uint64_t bytes, uint64_t *ret_reserved,
                             const char **ret_text)
{
    enum err err = not_open(h, ret_text);
    if (err != OK)
        return err;
    err = output_reserve(h->core, count, bytes, ret_reserved);
    *ret_text = err == ERR_FULL ? "an output has no room for a request of this size now" : room_text(err);
    return err;
}

/* Many outputs share what two would have for their tail caches and payloads: memory is bounded for the process, not for
 * each. */
static uint64_t share_of(uint64_t bytes, unsigned outputs)
{
    return bytes / outputs < OUTPUT_SHARE_BYTES_MIN ? OUTPUT_SHARE_BYTES_MIN : bytes / outputs;
}

static void spool_settings(const struct config *all, const struct config_output *c, uint64_t min_free,
                           struct spool_config *ret)
{
    output_config_spool(c, min_free, ret);
    if (all->output_count > 2)
        ret->cache_bytes = share_of(OUTPUTS_CACHE_BYTES, all->output_count);
}

/* --- life ----------------------------------------------------------------------------------------------- */

enum err output_host_new(struct agent *a, struct config_edition *edition, const struct config_output *config,
                         struct output_host **ret, struct fault *why)
{
    struct output_host *h = must_alloc(sizeof *h);
    h->agent = a;
    h->config = config;
    h->name = config->name;
    h->name_hash = hash64(span_str(config->name), 0);
    (void)snprintf(h->subject, sizeof h->subject, "output %s", config->name);
    bytes_init(&h->kept_answer.body, KEPT_ANSWER_BYTES);
    list_init(&h->waiting);
    list_init(&h->dirty);
    list_init(&h->node);
    output_config_reread_init(h);
    enum err err = disk_uv_init(&h->disk, a->loop, a->data_dir_fd, config->name, &a->clock, &a->entropy, why);
    if (err != OK) {
        free(h);
        return err;
    }
    h->disk.lanes = &a->disk_lanes;
    int r = uv_timer_init(a->loop, &h->timer);
    ensure(r == 0);
    h->timer.data = h;
    h->disk.note = on_note;
    h->disk.ctx = h;
    struct spool_config spool_config;
    spool_settings(edition->config, config, edition->config->agent.min_free, &spool_config);
    struct spool_vfs vfs = disk_uv_vfs(&h->disk);
    struct spool_host host = disk_uv_host(&h->disk);
    h->spool = spool_new(&spool_config, &vfs, &host);
    h->disk.spool = h->spool;
    output_config_core(config, a->name, &h->core_config);
    if (edition->config->output_count > 2)
        h->core_config.payload_budget_bytes = share_of(OUTPUTS_PAYLOAD_BYTES, edition->config->output_count);
    h->core = output_new(&h->core_config, h->spool, &a->clock, rng_next(&a->rng));
    h->settings = output_api_settings(h->core);
    h->upstream = upstream_new(h);
    struct fault tls;
    if (upstream_load_tls(h->upstream, &tls) != OK)
        log_error(h->subject, "%s; events are kept until this is mended", tls.text);
    h->edition = edition_take(edition);
    *ret = h;
    return OK;
}

void output_host_open(struct output_host *h)
{
    h->spool_opened = true;
    spool_open(h->spool);
}

void output_host_set_min_free(struct output_host *h, uint64_t min_free)
{
    struct spool_config spool_config;
    spool_settings(h->edition->config, h->config, min_free, &spool_config);
    spool_reconfigure(h->spool, &spool_config);
}

void output_host_status(const struct output_host *h, struct output_status *ret)
{
    if (h->stand_in != NULL)
        *ret = *h->stand_in;
    else
        output_status(h->core, ret);
}

/* Closing goes in one order, whoever is done first: connections and encodings, then the spool, then the handles. */

static void on_handles_closed(void *ctx)
{
    struct output_host *h = ctx;
    ensure(h->handles_open > 0);
    if (--h->handles_open > 0)
        return;
    h->phase = HOST_CLOSED;
    agent_output_news(h->agent, h);
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_handles_closed(handle->data);
}

static void close_handles(struct output_host *h)
{
    h->handles_open = 2;
    h->disk.gone = on_handles_closed;
    disk_uv_close(&h->disk);
    uv_close((uv_handle_t *)&h->timer, on_timer_closed);
}

static void on_upstream_gone(struct output_host *h)
{
    h->upstream_gone = true;
    finish_close(h);
}

static void finish_close(struct output_host *h)
{
    if (h->phase != HOST_CLOSING || !h->upstream_gone || h->encodings_out > 0 || h->handles_open > 0)
        return;
    if (!h->spool_opened) {
        close_handles(h);
        return;
    }
    if (!h->spool_closing) {
        h->spool_closing = true;
        if (spool_state(h->spool) != SPOOL_OPENING && spool_state(h->spool) != SPOOL_FAILED)
            output_save_stats(h->core);
        spool_close(h->spool);
        return;
    }
    if (spool_state(h->spool) == SPOOL_CLOSED)
        close_handles(h);
}

void output_host_close(struct output_host *h)
{
    if (h->phase == HOST_CLOSING || h->phase == HOST_CLOSED)
        return;
    h->phase = HOST_CLOSING;
    if (!h->going) /* else those whose events the last commit takes along are still answered */
        intake_fail(&h->agent->intake, h, COND_STOPPING, "the agent is stopping");
    upstream_close(h->upstream, on_upstream_gone);
}

void output_host_leave(struct output_host *h)
{
    ensure(h->going);
    intake_fail_room(&h->agent->intake, h, COND_FULL, "an output is being reloaded");
    if (h->phase != HOST_OPEN) {
        output_host_close(h);
        return;
    }
    h->phase = HOST_LEAVING;
    h->leaving_until_us = clock_mono_us(&h->agent->clock) + LEAVE_US;
    output_pause(h->core);
    output_host_touch(h);
}

void output_host_free(struct output_host *h)
{
    ensure(h->phase == HOST_CLOSED);
    reread_abandon(&h->reread);
    admin_dead_drop(h);
    list_remove(&h->dirty);
    list_remove(&h->node);
    output_free(h->core);
    spool_free(h->spool);
    upstream_free(h->upstream);
    output_config_release(&h->core_config);
    edition_drop(h->edition);
    bytes_deinit(&h->kept_answer.body);
    free(h->stand_in);
    free(h);
}
