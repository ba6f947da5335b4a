/* bounds: see bounds.h. Sums cannot overflow: their parts are bounded by the table of keys. */
#include "lib/config/bounds.h"

#include <stdio.h>

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

uint64_t bounds_input_memory(const struct config_input *in, const struct bounds_costs *costs)
{
    switch (in->type) {
    case CONFIG_INPUT_HTTP:
        return in->max_connections *
                   (costs->connection_bytes + (in->tls.cert_file != NULL ? costs->tls_bytes : 0)) +
               costs->backlog_bytes;
    case CONFIG_INPUT_UNIX:
        return in->max_connections * costs->stream_bytes + costs->underway_bytes;
    default:
        return costs->datagram_bytes;
    }
}

/* What inputs of a kind share: a bound, which one request or message alone may pass. */
static uint64_t shared_intake(const struct config *c, const struct bounds_costs *costs)
{
    uint64_t requests = 0, held = 0;
    for (unsigned i = 0; i < c->input_count; i++) {
        const struct config_input *in = &c->inputs[i];
        if (in->type == CONFIG_INPUT_HTTP)
            requests = larger(requests, costs->request_bytes + larger(costs->large_bytes, 2 * in->max_body));
        else if (in->type == CONFIG_INPUT_UNIX)
            held =
                larger(held, costs->held_bytes + larger(in->max_event, in->max_body) + costs->inflated_bytes);
    }
    return requests + held;
}

/* The largest request that goes on as it came: in the log's tail and in its batch, where it is alone, whatever payloads are
 * held to. */
static uint64_t whole_request(const struct config *c, const struct config_output *out)
{
    uint64_t largest = 0;
    if (out->type != CONFIG_OUTPUT_OTLP && out->type != CONFIG_OUTPUT_LANGFUSE && out->type != CONFIG_OUTPUT_LAUNCHDARKLY)
        return 0;
    for (unsigned i = 0; i < c->input_count; i++)
        if (c->inputs[i].type == CONFIG_INPUT_HTTP)
            largest = larger(largest, c->inputs[i].max_body);
    return 2 * (largest < out->spool.record_bytes ? largest : out->spool.record_bytes);
}

uint64_t bounds_output_memory(const struct config *c, const struct config_output *out, const struct bounds_costs *costs)
{
    uint64_t own = c->output_count > 2 ? costs->outputs_bytes / c->output_count : costs->output_bytes;
    return costs->spool_bytes + own + larger(costs->batch_bytes, whole_request(c, out)) +
           out->concurrency * costs->upstream_bytes;
}

uint64_t bounds_output_disk(const struct config_output *out)
{
    return out->spool.max_bytes + out->dead_letter.max_bytes;
}

struct bounds bounds_of(const struct config *c, const struct bounds_costs *costs)
{
    struct bounds b = {
        .process_bytes = costs->process_bytes + costs->threads * costs->thread_bytes,
        .intake_bytes = shared_intake(c, costs),
        .min_free = c->agent.min_free,
        .descriptors = costs->descriptors,
    };
    b.memory_bytes = b.process_bytes + b.intake_bytes;
    for (unsigned i = 0; i < c->input_count; i++) {
        const struct config_input *in = &c->inputs[i];
        b.memory_bytes += bounds_input_memory(in, costs);
        b.kernel_bytes += in->receive_buffer;
        b.descriptors += 1 + in->max_connections;
    }
    for (unsigned i = 0; i < c->output_count; i++) {
        const struct config_output *out = &c->outputs[i];
        b.memory_bytes += bounds_output_memory(c, out, costs);
        b.disk_bytes += bounds_output_disk(out);
        b.descriptors += costs->spool_descriptors + out->concurrency;
    }
    return b;
}

const char *bounds_text(uint64_t bytes, char *into, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    unsigned unit = 0;
    double value = (double)bytes;
    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    bool whole = value >= 100 || (double)(uint64_t)value == value;
    (void)snprintf(into, size, whole ? "%.0f%s" : "%.1f%s", value, units[unit]);
    return into;
}
