/* reload: see reload.h. */
#include "agent/reload.h"

#include "agent/admin.h"
#include "agent/agent.h"
#include "agent/config_load.h"
#include "agent/diag.h"
#include "agent/edition.h"
#include "agent/input.h"
#include "agent/intake_pieces.h"
#include "agent/listener.h"
#include "agent/orphans.h"
#include "agent/output_host.h"
#include "agent/systemd.h"
#include "lib/base/ensure.h"
#include "lib/codec/json.h"

#include <stdio.h>
#include <stdlib.h>

#define ANSWER_BYTES_MAX (8 * 1024 * 1024)
#define GOING_US (30 * US_PER_S) /* senders of an input that went away have so long to end */

enum reload_phase { RELOAD_IDLE, RELOAD_LOADING, RELOAD_LOADED, RELOAD_SETTLING };

#define TAKING_US (2 * US_PER_S) /* how long the switch waits for large requests that are half stored */

struct reload {
    struct agent *agent;
    enum reload_phase phase;
    uint64_t wanted, begun, over; /* rounds */
    uv_work_t work;               /* .data == this; owns report and fresh while it is out */
    struct config_report report;
    struct config *fresh;
    uint64_t switch_at_us; /* whatever is still half stored by then */
    unsigned status;
    struct bytes answer;
};

/* What a reload would put in place of what is there. */
struct plan {
    struct agent *agent;
    struct config_edition *edition;
    struct output_host **outputs; /* as the new configuration orders them; kept ones and new ones */
    struct input **inputs;
    unsigned output_count, input_count;
};

/* --- words ---------------------------------------------------------------------------------------------- */

/* The answer is bounded: by the report, which is, and by the names of what is configured. */
static void say(struct reload *r, const char *text)
{
    enum err err = bytes_append(&r->answer, span_str(text));
    ensure(err == OK);
}

static void say_string(struct reload *r, const char *text)
{
    enum err err = json_append_string(&r->answer, span_str(text));
    ensure(err == OK);
}

static void say_messages(struct reload *r, const char *name, enum config_severity severity)
{
    bool first = true;
    char number[64];
    say(r, ",\"");
    say(r, name);
    say(r, "\":[");
    for (unsigned i = 0; i < r->report.count; i++) {
        const struct config_message *m = &r->report.messages[i];
        if (m->severity != severity)
            continue;
        say(r, first ? "{\"file\":" : ",{\"file\":");
        say_string(r, r->agent->config_path);
        (void)snprintf(number, sizeof number, ",\"line\":%u,\"column\":%u,\"message\":", m->line, m->column);
        say(r, number);
        say_string(r, m->text);
        say(r, "}");
        first = false;
    }
    say(r, "]");
}

static void log_messages(const struct reload *r)
{
    char line[700];
    for (unsigned i = 0; i < r->report.count; i++) {
        const struct config_message *m = &r->report.messages[i];
        if (m->severity == CONFIG_NOTE)
            continue;
        config_message_print(m, r->agent->config_path, line, sizeof line);
        log_line(m->severity == CONFIG_FAULT ? LOG_ERROR : LOG_WARN, NULL, "reload: %s", line);
    }
}

static void finish(struct reload *r, unsigned status)
{
    struct agent *a = r->agent;
    r->status = status;
    r->over = r->begun;
    r->phase = RELOAD_IDLE;
    config_report_deinit(&r->report);
    if (a->phase == AGENT_RUNNING)
        systemd_notify("READY=1\nSTATUS=%s: %u inputs, %u outputs", status == 200 ? "reloaded" : "reload refused",
                       a->config->input_count, a->output_count);
}

static void refuse(struct reload *r, const struct fault *why)
{
    if (why != NULL)
        config_report_add(&r->report, CONFIG_FAULT, "%s", why->text);
    bytes_clear(&r->answer);
    say(r, "{\"error\":{\"code\":\"invalid_configuration\",\"message\":\"nothing was changed\"}");
    say_messages(r, "faults", CONFIG_FAULT);
    say(r, "}\n");
    log_messages(r);
    log_error(NULL, "reload refused, nothing was changed (%u %s)", r->report.faults,
              r->report.faults == 1 ? "fault" : "faults");
    finish(r, 422);
}

static void give_up(struct reload *r)
{
    bytes_clear(&r->answer);
    say(r, "{\"error\":{\"code\":\"stopping\",\"message\":\"the agent is stopping\"}}\n");
    finish(r, 503);
}

/* --- the plan ------------------------------------------------------------------------------------------- */

static bool has_input(const struct plan *p, const struct input *in)
{
    for (unsigned i = 0; i < p->input_count; i++)
        if (p->inputs[i] == in)
            return true;
    return false;
}

static bool has_output(const struct plan *p, const struct output_host *h)
{
    for (unsigned i = 0; i < p->output_count; i++)
        if (p->outputs[i] == h)
            return true;
    return false;
}

static bool runs_already(const struct agent *a, const struct input *in)
{
    for (const struct list *node = a->inputs.next; node != &a->inputs; node = node->next)
        if (CONTAINER_OF(node, const struct input, node) == in)
            return true;
    return false;
}

static bool output_runs(const struct agent *a, const struct output_host *h)
{
    for (unsigned i = 0; i < a->output_count; i++)
        if (a->outputs[i] == h)
            return true;
    return false;
}

static struct input *input_of(const struct agent *a, const char *name)
{
    for (struct list *node = a->inputs.next; node != &a->inputs; node = node->next) {
        struct input *in = CONTAINER_OF(node, struct input, node);
        if (strcmp(in->config->name, name) == 0)
            return in;
    }
    return NULL;
}

static struct output_host *output_of(const struct agent *a, const char *name)
{
    for (unsigned i = 0; i < a->output_count; i++)
        if (strcmp(a->outputs[i]->name, name) == 0)
            return a->outputs[i];
    return NULL;
}

static void lend_addresses(const struct plan *p)
{
    for (struct list *node = p->agent->inputs.next; node != &p->agent->inputs; node = node->next) {
        struct input *in = CONTAINER_OF(node, struct input, node);
        if (!has_input(p, in) && in->kind->listener != NULL)
            listener_lend(in->kind->listener(in), in->config->name);
    }
}

static enum err plan_inputs(struct plan *p, struct fault *why)
{
    const struct config *fresh = p->edition->config;
    p->input_count = fresh->input_count;
    for (unsigned i = 0; i < fresh->input_count; i++) {
        struct input *in = input_of(p->agent, fresh->inputs[i].name);
        if (in != NULL && config_input_same(in->config, &fresh->inputs[i]))
            p->inputs[i] = in;
    }
    lend_addresses(p);
    for (unsigned i = 0; i < fresh->input_count; i++) {
        if (p->inputs[i] != NULL)
            continue;
        enum err err = input_bind(p->agent, p->edition, &fresh->inputs[i], &p->inputs[i], why);
        if (err != OK)
            return err;
    }
    return OK;
}

static enum err plan_outputs(struct plan *p, struct fault *why)
{
    const struct config *fresh = p->edition->config;
    p->output_count = fresh->output_count;
    for (unsigned i = 0; i < fresh->output_count; i++) {
        const struct config_output *config = &fresh->outputs[i];
        struct output_host *old = output_of(p->agent, config->name);
        if (old != NULL && old->phase == HOST_OPEN && config_output_same(old->config, config)) {
            p->outputs[i] = old;
            continue;
        }
        enum err err = output_host_new(p->agent, p->edition, config, &p->outputs[i], why);
        if (err != OK)
            return fault_context(why, "output %s", config->name);
        p->outputs[i]->before = old;
        if (old != NULL) {
            p->outputs[i]->stand_in = must_alloc(sizeof *p->outputs[i]->stand_in);
            output_host_status(old, p->outputs[i]->stand_in);
        }
    }
    return OK;
}

static enum err start_inputs(struct plan *p, struct fault *why)
{
    for (unsigned i = 0; i < p->input_count; i++) {
        struct input *in = p->inputs[i];
        if (runs_already(p->agent, in))
            continue;
        enum err err = in->kind->start(in, why);
        if (err != OK)
            return fault_context(why, "%s", in->subject);
    }
    return OK;
}

static enum err plan_make(struct plan *p, struct fault *why)
{
    const struct config *fresh = p->edition->config;
    p->outputs = must_alloc((fresh->output_count + 1) * sizeof(struct output_host *));
    p->inputs = must_alloc((fresh->input_count + 1) * sizeof(struct input *));
    enum err err = plan_inputs(p, why);
    if (err == OK)
        err = plan_outputs(p, why);
    if (err == OK)
        err = start_inputs(p, why);
    return err;
}

/* What the plan made anew closes; what runs was not touched. */
static void plan_undo(struct plan *p)
{
    struct agent *a = p->agent;
    listener_lend_end(false);
    for (unsigned i = 0; i < p->input_count; i++) {
        struct input *in = p->inputs[i];
        if (in == NULL || runs_already(a, in))
            continue;
        list_append(&a->inputs_going, &in->node);
        input_stop(in);
        input_close(in);
    }
    for (unsigned i = 0; i < p->output_count; i++) {
        struct output_host *h = p->outputs[i];
        if (h == NULL || output_runs(a, h))
            continue;
        h->before = NULL;
        h->going = true;
        list_append(&a->outputs_going, &h->node);
        output_host_close(h);
    }
}

/* --- the switch ----------------------------------------------------------------------------------------- */

static void count_change(struct reload *r, const char *name, const char *what, bool *first)
{
    say(r, *first ? "{\"name\":" : ",{\"name\":");
    say_string(r, name);
    say(r, ",\"what\":\"");
    say(r, what);
    say(r, "\"}");
    *first = false;
}

static void say_changes(struct reload *r, const struct plan *p)
{
    struct agent *a = r->agent;
    bool first = true;
    say(r, ",\"inputs\":[");
    for (unsigned i = 0; i < p->input_count; i++)
        if (!runs_already(a, p->inputs[i]))
            count_change(r, p->inputs[i]->config->name,
                         input_of(a, p->inputs[i]->config->name) != NULL ? "changed" : "new", &first);
    for (const struct list *node = a->inputs.next; node != &a->inputs; node = node->next) {
        const struct input *in = CONTAINER_OF(node, const struct input, node);
        if (config_find_input(p->edition->config, in->config->name) == NULL)
            count_change(r, in->config->name, "removed", &first);
    }
    first = true;
    say(r, "],\"outputs\":[");
    for (unsigned i = 0; i < p->output_count; i++)
        if (!output_runs(a, p->outputs[i]))
            count_change(r, p->outputs[i]->name, p->outputs[i]->before != NULL ? "changed" : "new", &first);
    for (unsigned i = 0; i < a->output_count; i++)
        if (config_find_output(p->edition->config, a->outputs[i]->name) == NULL)
            count_change(r, a->outputs[i]->name, "removed", &first);
    say(r, "]");
}

static void say_result(struct reload *r, const struct plan *p)
{
    char keys[1024] = "";
    unsigned count = config_restart_keys(r->agent->first_edition->config, p->edition->config, keys, sizeof keys);
    bytes_clear(&r->answer);
    say(r, "{\"reloaded\":true,\"needs_restart\":[");
    if (count > 0) {
        log_warn(NULL, "reload: takes effect at the next start only: %s", keys);
        for (char *rest = keys, *key; (key = strsep(&rest, ",")) != NULL;) {
            if (key != keys)
                say(r, ",");
            say_string(r, key + strspn(key, " "));
        }
    }
    say(r, "]");
    say_changes(r, p);
    say_messages(r, "warnings", CONFIG_WARNING);
    say(r, "}\n");
    log_messages(r);
}

static void switch_agent(struct agent *a, const struct config *fresh)
{
    static const enum log_level levels[] = {[CONFIG_LOG_ERROR] = LOG_ERROR,
                                            [CONFIG_LOG_WARN] = LOG_WARN,
                                            [CONFIG_LOG_INFO] = LOG_INFO,
                                            [CONFIG_LOG_DEBUG] = LOG_DEBUG};
    (void)snprintf(a->name, sizeof a->name, "%s", fresh->agent.name);
    if (fresh->agent.log.level != a->config->agent.log.level || fresh->agent.log.format != a->config->agent.log.format)
        diag_init(levels[fresh->agent.log.level], fresh->agent.log.format == CONFIG_LOG_JSON);
}

static void switch_outputs(struct plan *p)
{
    struct agent *a = p->agent;
    struct output_host **old = a->outputs;
    unsigned old_count = a->output_count;
    bool min_free = a->config->agent.min_free != p->edition->config->agent.min_free;
    a->outputs = p->outputs;
    a->output_count = p->output_count;
    agent_routes_deinit(&a->routes);
    agent_routes_init(&a->routes, p->edition->config, &a->rng);
    for (unsigned i = 0; i < old_count; i++) {
        struct output_host *h = old[i];
        if (has_output(p, h)) {
            if (min_free)
                output_host_set_min_free(h, p->edition->config->agent.min_free);
            continue;
        }
        h->going = true;
        list_append(&a->outputs_going, &h->node);
        output_host_leave(h);
    }
    for (unsigned i = 0; i < a->output_count; i++)
        if (!a->outputs[i]->spool_opened && a->outputs[i]->before == NULL)
            output_host_open(a->outputs[i]);
    free(old);
    p->outputs = NULL;
}

static void take_over_counters(struct input *in, struct input *old)
{
    in->counters = old->counters;
    in->since_wall_ns = old->since_wall_ns;
    in->last_wall_ns = old->last_wall_ns;
    in->received_seen = old->received_seen;
    old->counters = (struct input_counters){0}; /* what its last senders add is added when it is gone */
}

static void switch_inputs(struct plan *p)
{
    struct agent *a = p->agent;
    struct list old;
    struct list *node;
    list_init(&old);
    listener_lend_end(true);
    for (unsigned i = 0; i < p->input_count; i++) {
        struct input *before = input_of(a, p->inputs[i]->config->name);
        if (before != NULL && before != p->inputs[i])
            take_over_counters(p->inputs[i], before);
    }
    while ((node = list_first(&a->inputs)) != NULL) {
        list_remove(node);
        list_append(&old, node);
    }
    for (unsigned i = 0; i < p->input_count; i++) {
        list_remove(&p->inputs[i]->node);
        list_append(&a->inputs, &p->inputs[i]->node);
    }
    while ((node = list_first(&old)) != NULL) {
        struct input *in = CONTAINER_OF(node, struct input, node);
        list_remove(node);
        list_append(&a->inputs_going, node);
        in->going_until_us = clock_mono_us(&a->clock) + GOING_US;
        input_stop(in);
    }
}

static void switch_over(struct reload *r, struct plan *p)
{
    struct agent *a = r->agent;
    say_result(r, p);
    switch_agent(a, p->edition->config);
    switch_outputs(p);
    switch_inputs(p);
    edition_drop(a->edition);
    a->edition = p->edition;
    a->config = p->edition->config;
    a->intake.generation++;
    admin_outputs_changed(a->admin);
    r->phase = RELOAD_SETTLING;
}

/* --- the course ----------------------------------------------------------------------------------------- */

static void on_load(uv_work_t *work)
{
    struct reload *r = work->data;
    r->fresh = config_load(r->agent->config_path, &r->report);
}

static void on_loaded(uv_work_t *work, int status)
{
    struct reload *r = work->data;
    ensure(status == 0);
    r->phase = RELOAD_LOADED;
    r->switch_at_us = clock_mono_us(&r->agent->clock) + TAKING_US;
    intake_hold(&r->agent->intake, true);
    agent_wake(r->agent);
}

/* Large requests that are half stored go on with the outputs that they began with, or are told that nobody knows. */
static bool nothing_is_half_stored(struct reload *r)
{
    struct agent *a = r->agent;
    if (!intake_taking(&a->intake))
        return true;
    if (a->phase == AGENT_RUNNING && clock_mono_us(&a->clock) < r->switch_at_us)
        return false;
    for (unsigned i = 0; i < a->output_count; i++)
        intake_pieces_fail(&a->intake, a->outputs[i], COND_FAILED, "an output is being reloaded");
    return true;
}

static void carry_out(struct reload *r)
{
    struct agent *a = r->agent;
    struct fault why;
    intake_hold(&a->intake, false);
    if (a->phase != AGENT_RUNNING) {
        config_free(r->fresh);
        r->fresh = NULL;
        give_up(r);
        return;
    }
    if (r->fresh == NULL) {
        refuse(r, NULL);
        return;
    }
    struct plan plan = {.agent = a, .edition = edition_new(r->fresh)};
    r->fresh = NULL;
    if (plan_make(&plan, &why) == OK) {
        switch_over(r, &plan);
    } else {
        plan_undo(&plan);
        edition_drop(plan.edition);
        refuse(r, &why);
    }
    free(plan.outputs);
    free(plan.inputs);
}

static void begin(struct reload *r)
{
    struct agent *a = r->agent;
    r->begun++;
    r->phase = RELOAD_LOADING;
    systemd_notify("RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=reloading",
                   (unsigned long long)clock_mono_us(&a->clock));
    log_info(NULL, "reload: reading %s", a->config_path);
    config_report_init(&r->report);
    r->work.data = r;
    int e = uv_queue_work(a->loop, &r->work, on_load, on_loaded);
    ensure(e == 0);
}

static bool settled(const struct agent *a)
{
    for (unsigned i = 0; i < a->output_count; i++)
        if (a->outputs[i]->phase == HOST_OPENING)
            return false;
    return list_empty((struct list *)(uintptr_t)&a->outputs_going);
}

void reload_step(struct reload *r)
{
    struct agent *a = r->agent;
    if (r->phase == RELOAD_LOADED && nothing_is_half_stored(r))
        carry_out(r);
    if (r->phase == RELOAD_SETTLING && (settled(a) || a->phase != AGENT_RUNNING)) {
        log_info(NULL, "reloaded: %u inputs, %u outputs", a->config->input_count, a->output_count);
        orphans_look(a->orphans);
        finish(r, 200);
    }
    if (r->phase != RELOAD_IDLE || r->wanted <= r->begun)
        return;
    if (a->phase == AGENT_RUNNING) {
        begin(r);
    } else if (a->phase >= AGENT_STOPPING) {
        r->begun = r->wanted;
        give_up(r);
    }
}

uint64_t reload_ask(struct reload *r)
{
    if (r->wanted <= r->begun)
        r->wanted = r->begun + 1;
    agent_wake(r->agent);
    return r->wanted;
}

bool reload_answer(const struct reload *r, uint64_t round, unsigned *ret_status, struct span *ret_body)
{
    if (r->over < round)
        return false;
    *ret_status = r->status;
    *ret_body = bytes_span(&r->answer);
    return true;
}

struct reload *reload_new(struct agent *a)
{
    struct reload *r = must_alloc(sizeof *r);
    r->agent = a;
    bytes_init(&r->answer, ANSWER_BYTES_MAX);
    return r;
}

void reload_free(struct reload *r)
{
    bytes_deinit(&r->answer);
    free(r);
}
