/* agent: the daemon's life, from the lock on its data directory to a loop that has run empty. See agent.h.
 *
 *   starting: lock, addresses taken, spools recovering        -> all spools open: listeners, READY
 *   running:  until SIGTERM, SIGINT, or failed storage
 *   stopping: nothing new is taken, what waits is answered, open batches are sent, at most drain_timeout
 *   closing:  outputs, then inputs and admin, then the agent's own handles: the loop runs empty
 */
#include "agent/agent.h"

#include "agent/admin.h"
#include "agent/confine.h"
#include "agent/edition.h"
#include "agent/exit.h"
#include "agent/input.h"
#include "agent/input_http.h"
#include "agent/orphans.h"
#include "agent/output_config.h"
#include "agent/output_host.h"
#include "agent/reload.h"
#include "agent/signals.h"
#include "agent/system.h"
#include "agent/systemd.h"
#include "agent/tally_store.h"
#include "agent/tap.h"
#include "lib/base/ensure.h"
#include "lib/base/http_date.h"
#include "lib/base/log.h"
#include "lib/codec/compress.h"
#include "lib/codec/rfc3339.h"
#include "lib/codec/uuid7.h"
#include "lib/config/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TURN_ROUNDS_MAX 64
#define REREAD_S 5        /* how soon a changed secret or certificate file takes effect by itself */
#define RECENT_MAX 131072 /* ids; 4 MiB when full */

/* --- one turn ------------------------------------------------------------------------------------------- */

static bool turn_due(const struct agent *a)
{
    return !list_empty(&a->dirty_outputs) || !list_empty(&a->intake.answers) || !list_empty(&a->flushes.due);
}

static void on_wake(uv_idle_t *wake)
{
    (void)wake; /* it only keeps the loop from waiting */
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct agent *a = prepare->data;
    struct list *node;
    (void)uv_idle_stop(&a->wake);
    intake_step(&a->intake);
    for (unsigned round = 0; round < TURN_ROUNDS_MAX && turn_due(a); round++) {
        while ((node = list_first(&a->dirty_outputs)) != NULL)
            output_host_turn(CONTAINER_OF(node, struct output_host, dirty));
        intake_turn(&a->intake);
        flush_all(&a->flushes);
    }
    reload_step(a->reload);
    admin_turn(a->admin);
    if (turn_due(a) || intake_steps(&a->intake))
        agent_wake(a);
    agent_stop_step(a);
}

void agent_wake(struct agent *a)
{
    if (!uv_is_closing((uv_handle_t *)&a->wake))
        (void)uv_idle_start(&a->wake, on_wake);
}

/* --- once a second -------------------------------------------------------------------------------------- */

static void set_date(struct agent *a)
{
    int64_t now = (int64_t)(clock_wall_ns(&a->clock) / NS_PER_S);
    http_date_write((uint64_t)now, a->http_date);
}

/* What a reload put away ends when its senders have, or when its time is up. */
static void close_going(struct agent *a)
{
    uint64_t now = clock_mono_us(&a->clock);
    struct list *node = a->inputs_going.next;
    while (node != &a->inputs_going) {
        struct input *in = CONTAINER_OF(node, struct input, node);
        node = node->next;
        if (now >= in->going_until_us || in->kind->connections == NULL || in->kind->connections(in) == 0)
            input_close(in);
    }
    node = a->outputs_going.next;
    while (node != &a->outputs_going) {
        struct output_host *h = CONTAINER_OF(node, struct output_host, node);
        node = node->next;
        if (h->phase == HOST_LEAVING && now >= h->leaving_until_us)
            output_host_close(h);
    }
}

void agent_refresh(struct agent *a)
{
    for (struct list *node = a->inputs.next; node != &a->inputs; node = node->next) {
        struct input *in = CONTAINER_OF(node, struct input, node);
        if (in->kind->refresh != NULL)
            in->kind->refresh(in);
    }
}

static void on_second(uv_timer_t *timer)
{
    struct agent *a = timer->data;
    set_date(a);
    bool reread = ++a->seconds % REREAD_S == 0;
    agent_refresh(a);
    for (struct list *node = a->inputs.next; node != &a->inputs; node = node->next) {
        struct input *in = CONTAINER_OF(node, struct input, node);
        if (in->counters.received != in->received_seen) {
            in->received_seen = in->counters.received;
            in->last_wall_ns = clock_wall_ns(&a->clock);
        }
        if (in->kind->second != NULL)
            in->kind->second(in);
        if (reread && in->kind->reread != NULL)
            in->kind->reread(in);
    }
    for (unsigned i = 0; reread && i < a->output_count; i++)
        if (a->outputs[i]->phase == HOST_OPEN)
            output_config_reread(a->outputs[i]);
    if (reread)
        admin_reread(a->admin);
    close_going(a);
    recent_expire(&a->recent, clock_mono_us(&a->clock));
    tally_store_second(a->tally);
    admin_second(a->admin);
    headline_second(a);
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer; /* fed from the loop itself: a loop that is stuck does not come here */
    systemd_notify("WATCHDOG=1");
}

void agent_flush(struct agent *a)
{
    log_info(NULL, "flush: sending what is pending now");
    for (unsigned i = 0; i < a->output_count; i++) {
        if (a->outputs[i]->phase != HOST_OPEN)
            continue;
        output_flush(a->outputs[i]->core);
        output_host_touch(a->outputs[i]);
    }
}

struct output_host *agent_output_of(const struct agent *a, const struct api *api)
{
    struct output_host *found = NULL;
    for (unsigned i = 0; i < a->output_count; i++) {
        if (a->outputs[i]->settings->api != api)
            continue;
        if (found != NULL)
            return NULL;
        found = a->outputs[i];
    }
    return found;
}

const struct api_settings *agent_settings_of(const struct agent *a, const struct api *api)
{
    const struct output_host *h = agent_output_of(a, api);
    return h == NULL ? NULL : h->settings;
}

/* --- start ---------------------------------------------------------------------------------------------- */

static int exit_code_for(enum err err)
{
    switch (err) {
    case ERR_IN_USE:
    case ERR_NOT_FOUND:
        return EXIT_CANT_CREATE;
    case ERR_DENIED:
        return EXIT_NO_PERMISSION;
    case ERR_UNSUPPORTED:
    case ERR_CONFIG:
        return EXIT_BAD_CONFIG;
    default:
        return EXIT_CANT_CREATE;
    }
}

static enum err take_addresses(struct agent *a, struct fault *why)
{
    for (unsigned i = 0; i < a->config->input_count; i++) {
        struct input *in;
        enum err err = input_bind(a, a->edition, &a->config->inputs[i], &in, why);
        if (err != OK)
            return err;
        list_append(&a->inputs, &in->node);
    }
    return admin_bind(a, &a->admin, why);
}

static enum err make_outputs(struct agent *a, struct fault *why)
{
    a->outputs = must_alloc(sizeof(struct output_host *) * (a->config->output_count + 1));
    for (unsigned i = 0; i < a->config->output_count; i++) {
        enum err err = output_host_new(a, a->edition, &a->config->outputs[i], &a->outputs[i], why);
        if (err != OK)
            return fault_context(why, "output %s", a->config->outputs[i].name);
        a->output_count++;
        output_host_open(a->outputs[i]);
    }
    return OK;
}

static void start_inputs(struct agent *a)
{
    struct fault why;
    for (struct list *node = a->inputs.next; node != &a->inputs; node = node->next) {
        struct input *in = CONTAINER_OF(node, struct input, node);
        if (in->kind->start(in, &why) != OK) {
            log_error(in->subject, "cannot listen: %s", why.text);
            agent_stop_with(a, exit_code_for(why.err));
            return;
        }
    }
}

static void become_ready(struct agent *a)
{
    struct fault why;
    a->phase = AGENT_RUNNING;
    /* Before the first byte from outside is read. */
    if (confine_system_calls(&why) != OK && why.err != ERR_UNSUPPORTED)
        log_warn(NULL, "%s: the agent goes on without it", why.text);
    start_inputs(a);
    if (a->phase != AGENT_RUNNING)
        return;
    log_info(NULL, "ready: %u inputs, %u outputs, %.0f ms after the start", a->config->input_count, a->output_count,
             (double)(clock_mono_us(&a->clock) - a->started_us) / 1000);
    systemd_notify("READY=1\nSTATUS=ready: %u inputs, %u outputs", a->config->input_count, a->output_count);
    orphans_look(a->orphans);
    agent_wake(a); /* a reload may have been asked for already */
}

static bool all_outputs_in(const struct agent *a, enum output_host_phase phase)
{
    for (unsigned i = 0; i < a->output_count; i++)
        if (a->outputs[i]->phase != phase)
            return false;
    return true;
}

/* An output that a reload put away is closed: what waited for its directory opens. */
static void output_gone(struct agent *a, struct output_host *h)
{
    intake_acked(&a->intake, h);
    intake_fail(&a->intake, h, COND_STOPPING, "an output was reloaded");
    for (unsigned i = 0; i < a->output_count; i++) {
        if (a->outputs[i]->before != h)
            continue;
        a->outputs[i]->before = NULL;
        if (a->phase == AGENT_RUNNING && a->outputs[i]->phase == HOST_OPENING)
            output_host_open(a->outputs[i]);
    }
    output_host_free(h);
    agent_wake(a);
}

void agent_output_news(struct agent *a, struct output_host *h)
{
    if (h->going) {
        if (h->phase == HOST_CLOSED)
            output_gone(a, h);
        return;
    }
    if (h->phase == HOST_FAILED && a->phase == AGENT_RUNNING)
        return; /* a reload's: the others go on, status and readiness say what is wrong */
    if (h->phase == HOST_FAILED || spool_state(h->spool) == SPOOL_FAILED) {
        bool ours = h->fault.err == ERR_UNSUPPORTED || h->fault.err == ERR_CONFIG; /* a version, require_local_fs */
        a->storage_failed |= !ours;
        agent_stop_with(a, ours ? EXIT_BAD_CONFIG : EXIT_STORAGE_FAILED);
        return;
    }
    if (a->phase == AGENT_STARTING && all_outputs_in(a, HOST_OPEN))
        become_ready(a);
}

/* --- readiness ------------------------------------------------------------------------------------------ */

/* A reason that does not fit is left out: the answer's code says the same. */
static void give_reason(struct bytes *reasons, const char *before, const char *what, const char *why)
{
    char line[256];
    (void)snprintf(line, sizeof line, "%s%s%s%s\n", before, what, why == NULL ? "" : ": ", why == NULL ? "" : why);
    if (bytes_append(reasons, span_str(line)) != OK)
        return;
}

bool agent_not_ready(const struct agent *a, struct bytes *reasons)
{
    bool any = false;
    if (a->phase == AGENT_STARTING || a->phase >= AGENT_STOPPING) {
        give_reason(reasons, "the agent is ", a->phase == AGENT_STARTING ? "starting" : "stopping", NULL);
        return true;
    }
    for (unsigned i = 0; i < a->output_count; i++) {
        struct output_host *h = a->outputs[i];
        const char *text = NULL;
        if (output_host_room(h, 1, 1024, &text) == OK || h->config->spool.when_full != CONFIG_BLOCK)
            any = true;
        else
            give_reason(reasons, "output ", h->name, text);
    }
    return !any || a->storage_failed;
}

/* --- stop ----------------------------------------------------------------------------------------------- */

static void on_drained(uv_timer_t *timer)
{
    struct agent *a = timer->data;
    if (a->drained)
        return;
    log_warn(NULL, "drain_timeout is over: what is left stays in the spools");
    a->drained = true;
}

/* Paused by a person: it would not send before it is resumed. */
static bool is_paused(const struct output_host *h)
{
    struct output_status s;
    output_host_status(h, &s);
    return s.state == OUT_PAUSED && s.in_flight == 0;
}

/* Is there nothing that waiting would help? */
static bool outputs_settled(const struct agent *a)
{
    if (intake_taking(&a->intake))
        return false;
    for (unsigned i = 0; i < a->output_count; i++) {
        struct output_host *h = a->outputs[i];
        if (h->phase != HOST_OPEN || (output_settled_to(h->core, output_mark(h->core)) && list_empty(&h->waiting)))
            continue;
        if (!list_empty(&h->waiting) || !is_paused(h))
            return false;
    }
    return true;
}

void agent_stop_with(struct agent *a, int exit_code)
{
    if (a->exit_code == 0)
        a->exit_code = exit_code;
    agent_stop(a);
}

void agent_stop(struct agent *a)
{
    if (a->phase >= AGENT_STOPPING) {
        a->drained = true; /* asked twice: leave at once; nothing is lost by it */
        return;
    }
    systemd_notify("STOPPING=1\nSTATUS=stopping: sending what is pending");
    bool was_running = a->phase == AGENT_RUNNING;
    if (was_running)
        log_info(NULL, "stopping: no new events are taken, what is pending is sent for at most %.1f s",
                 (double)a->config->agent.drain_timeout_us / US_PER_S);
    a->phase = AGENT_STOPPING;
    tap_end(a);
    intake_fail(&a->intake, NULL, COND_STOPPING, "the agent is stopping");
    for (struct list *node = a->inputs.next; node != &a->inputs; node = node->next)
        input_stop(CONTAINER_OF(node, struct input, node));
    for (unsigned i = 0; i < a->output_count; i++) {
        if (a->outputs[i]->phase == HOST_OPEN)
            output_drain(a->outputs[i]->core);
        output_host_touch(a->outputs[i]);
    }
    if (!was_running)
        a->drained = true;
    int r = uv_timer_start(&a->drain, on_drained, a->config->agent.drain_timeout_us / US_PER_MS, 0);
    ensure(r == 0);
}

static void close_own_handles(struct agent *a)
{
    a->phase = AGENT_STOPPED;
    intake_close(&a->intake);
    signals_close(a);
    uv_close((uv_handle_t *)&a->second, NULL);
    uv_close((uv_handle_t *)&a->watchdog, NULL);
    uv_close((uv_handle_t *)&a->drain, NULL);
    uv_close((uv_handle_t *)&a->wake, NULL);
    uv_close((uv_handle_t *)&a->prepare, NULL);
}

static void close_inputs(struct agent *a)
{
    if (a->inputs_closing)
        return;
    a->inputs_closing = true;
    for (struct list *node = a->inputs.next; node != &a->inputs; node = node->next)
        input_close(CONTAINER_OF(node, struct input, node));
    for (struct list *node = a->inputs_going.next; node != &a->inputs_going; node = node->next)
        input_close(CONTAINER_OF(node, struct input, node));
    admin_close(a->admin);
}

static void add_counters(struct input_counters *to, const struct input_counters *from)
{
    to->received += from->received;
    to->sampled += from->sampled;
    to->bytes_in += from->bytes_in;
    to->duplicates += from->duplicates;
    for (unsigned r = 0; r < REJECT_REASONS; r++)
        to->rejected[r] += from->rejected[r];
}

void agent_input_gone(struct agent *a, struct input *in)
{
    list_remove(&in->node);
    for (struct list *node = a->inputs.next; node != &a->inputs; node = node->next) {
        struct input *other = CONTAINER_OF(node, struct input, node);
        if (strcmp(other->config->name, in->config->name) == 0)
            add_counters(&other->counters, &in->counters); /* the one that took over after a reload */
    }
    input_free(in);
}

/* The steps of an orderly stop, each when the one before it is complete. Runs once per turn. */
void agent_stop_step(struct agent *a)
{
    if (a->phase != AGENT_STOPPING)
        return;
    if (!a->drained && outputs_settled(a))
        a->drained = true;
    if (!a->drained)
        return;
    bool outputs_closed = true;
    for (unsigned i = 0; i < a->output_count; i++) {
        output_host_close(a->outputs[i]);
        outputs_closed &= a->outputs[i]->phase == HOST_CLOSED;
    }
    for (struct list *node = a->outputs_going.next; node != &a->outputs_going; node = node->next)
        output_host_close(CONTAINER_OF(node, struct output_host, node));
    if (!outputs_closed || !list_empty(&a->outputs_going))
        return;
    close_inputs(a);
    if (list_empty(&a->inputs) && list_empty(&a->inputs_going) && admin_closed(a->admin))
        close_own_handles(a);
}

/* --- run ------------------------------------------------------------------------------------------------ */

static void init_handles(struct agent *a)
{
    int r = uv_prepare_init(a->loop, &a->prepare);
    ensure(r == 0);
    r = uv_idle_init(a->loop, &a->wake);
    ensure(r == 0);
    r = uv_timer_init(a->loop, &a->second);
    ensure(r == 0);
    r = uv_timer_init(a->loop, &a->drain);
    ensure(r == 0);
    r = uv_timer_init(a->loop, &a->watchdog);
    ensure(r == 0);
    a->prepare.data = a->wake.data = a->second.data = a->drain.data = a->watchdog.data = a;
    r = uv_prepare_start(&a->prepare, on_prepare);
    ensure(r == 0);
    r = uv_timer_start(&a->second, on_second, 1000, 1000);
    ensure(r == 0);
    uint64_t watchdog_ms = systemd_watchdog_us() / US_PER_MS;
    if (watchdog_ms > 0) {
        r = uv_timer_start(&a->watchdog, on_watchdog, 0, watchdog_ms);
        ensure(r == 0);
    }
}

static void warn_unclaimed(void)
{
    const char *name;
    while ((name = systemd_unclaimed()) != NULL)
        log_warn(NULL, "inherited socket \"%s\": no input or admin has this name and type; it is ignored", name);
}

static void agent_init(struct agent *a, struct config *config, const char *config_path)
{
    *a = (struct agent){.loop = uv_default_loop(), .config = config, .config_path = config_path,
                        .data_dir_fd = -1, .lock_fd = -1};
    a->edition = edition_new(config);
    a->first_edition = edition_take(a->edition); /* admin listens by it to the end */
    a->data_dir = config->agent.data_dir;
    (void)snprintf(a->name, sizeof a->name, "%s", config->agent.name);
    a->reload = reload_new(a);
    a->orphans = orphans_new(a);
    a->tally = tally_store_new(a);
    a->clock = system_clock();
    a->entropy = system_entropy();
    uint64_t seed;
    entropy_fill(&a->entropy, &seed, sizeof seed);
    rng_seed(&a->rng, seed);
    a->started_us = clock_mono_us(&a->clock);
    a->started_wall_ns = clock_wall_ns(&a->clock);
    a->uuids = must_alloc(sizeof *a->uuids);
    uuid_source_init(a->uuids, a->entropy);
    recent_init(&a->recent, RECENT_MAX, RECENT_WINDOW_US);
    a->decoder = decoder_new();
    list_init(&a->inputs);
    list_init(&a->inputs_going);
    input_hold_init(&a->hold);
    budget_init(&a->small_bodies, HTTP_SMALL_BYTES);
    budget_init(&a->large_bodies, HTTP_LARGE_BYTES);
    budget_init(&a->working, HTTP_WORKING_BYTES);
    list_init(&a->outputs_going);
    list_init(&a->dirty_outputs);
    disk_lanes_init(&a->disk_lanes);
    flush_queue_init(&a->flushes);
    set_date(a);
}

static void agent_deinit(struct agent *a)
{
    for (unsigned i = 0; i < a->output_count; i++)
        output_host_free(a->outputs[i]);
    free(a->outputs);
    intake_deinit(&a->intake);
    admin_free(a->admin);
    agent_routes_deinit(&a->routes);
    recent_deinit(&a->recent);
    decoder_free(a->decoder);
    free(a->uuids);
    reload_free(a->reload);
    orphans_free(a->orphans);
    tally_store_free(a->tally);
    edition_drop(a->edition);
    edition_drop(a->first_edition);
    if (a->lock_fd >= 0)
        (void)close(a->lock_fd);
    if (a->data_dir_fd >= 0)
        (void)close(a->data_dir_fd);
}

static enum err agent_begin(struct agent *a, struct fault *why)
{
    enum err err = system_lock_data_dir(a->config->agent.data_dir, true, &a->data_dir_fd, &a->lock_fd, why);
    if (err != OK)
        return err;
    tally_store_load(a->tally);
    err = take_addresses(a, why);
    if (err != OK)
        return err;
    warn_unclaimed();
    agent_routes_init(&a->routes, a->config, &a->rng);
    err = make_outputs(a, why);
    if (err != OK)
        return err;
    return admin_start(a->admin, why);
}

int agent_run(struct config *config, const char *config_path)
{
    struct agent agent;
    struct agent *a = &agent;
    struct fault why;
    if (uv_default_loop() == NULL) {
        log_error(NULL, "cannot start: there are not even descriptors for the loop (RLIMIT_NOFILE)");
        return EXIT_CANT_CREATE;
    }
    agent_init(a, config, config_path);
    init_handles(a);
    intake_init(&a->intake, a);
    signals_open(a);
    if (agent_begin(a, &why) != OK) {
        log_error(NULL, "cannot start: %s", why.text);
        agent_stop_with(a, why.err == ERR_IO && why.sys == EACCES ? EXIT_NO_PERMISSION : exit_code_for(why.err));
    }
    int r = uv_run(a->loop, UV_RUN_DEFAULT);
    ensure(r == 0);
    r = uv_loop_close(a->loop);
    ensure(r == 0); /* every handle was closed by its one owner */
    tally_store_save_last(a->tally);
    int code = a->exit_code;
    agent_deinit(a);
    log_info(NULL, "stopped");
    return code;
}
