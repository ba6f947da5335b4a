/* stats: see stats.h. Counted along steps 9 to 12. */
#include "lib/output/stats.h"

#include "lib/base/clock.h"
#include "lib/base/ensure.h"
#include "lib/base/le.h"

#include <stdio.h>

#define STATS_VERSION 1

const double output_histogram_bounds_s[OUTPUT_HISTOGRAM_BUCKETS - 1] = {
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
};

static const char *const known_results[] = {"delivered", "partial", "retry",   "split",      "dead",
                                            "hold",      "skipped", "unknown", "unreachable"};

void stats_init(struct stats *s)
{
    *s = (struct stats){0};
    for (size_t i = 0; i < sizeof known_results / sizeof known_results[0]; i++)
        (void)snprintf(s->results[s->result_count++].name, STATS_RESULT_NAME, "%s", known_results[i]);
}

static struct stats_result *find(struct stats *s, struct span name)
{
    if (name.len >= STATS_RESULT_NAME)
        name.len = STATS_RESULT_NAME - 1;
    for (unsigned i = 0; i < s->result_count; i++)
        if (span_is(name, s->results[i].name))
            return &s->results[i];
    if (s->result_count == STATS_RESULTS)
        return &s->results[STATS_RESULTS - 1]; /* the last name stands for all further ones */
    struct stats_result *r = &s->results[s->result_count++];
    if (s->result_count == STATS_RESULTS)
        name = SPAN("other");
    (void)snprintf(r->name, STATS_RESULT_NAME, "%.*s", SPAN_FMT(name));
    return r;
}

void stats_result(struct stats *s, const char *name)
{
    find(s, span_str(name == NULL ? "other" : name))->count++;
}

void stats_observe(struct output_histogram *h, uint64_t us)
{
    double seconds = (double)us / 1e6;
    unsigned i = 0;
    while (i < OUTPUT_HISTOGRAM_BUCKETS - 1 && seconds > output_histogram_bounds_s[i])
        i++;
    h->buckets[i]++;
    h->count++;
    h->sum_s += seconds;
}

static uint8_t *put(uint8_t *at, uint64_t v)
{
    le64_put(at, v);
    return at + 8;
}

static uint8_t *put_histogram(uint8_t *at, const struct output_histogram *h)
{
    for (unsigned i = 0; i < OUTPUT_HISTOGRAM_BUCKETS; i++)
        at = put(at, h->buckets[i]);
    return put(at, (uint64_t)(h->sum_s * 1e6 + 0.5)); /* rounded as it is shown: it never falls */
}

size_t stats_save(const struct stats *s, uint8_t *into)
{
    _Static_assert(4 + 5 * 8 + 2 * 15 * 8 + STATS_RESULTS * (1 + STATS_RESULT_NAME + 8) <= STATS_BLOB_MAX,
                   "the blob fits");
    _Static_assert(STATS_BLOB_MAX <= SPOOL_USER_MAX, "the spool keeps it whole");
    uint8_t *at = into;
    *at++ = STATS_VERSION;
    *at++ = (uint8_t)s->result_count;
    *at++ = 0;
    *at++ = 0;
    at = put(at, s->requests);
    at = put(at, s->retries);
    at = put(at, s->repeated);
    at = put(at, s->bytes_out);
    at = put(at, 0);
    at = put_histogram(at, &s->request_seconds);
    at = put_histogram(at, &s->commit_seconds);
    for (unsigned i = 0; i < s->result_count; i++) {
        size_t len = strlen(s->results[i].name);
        *at++ = (uint8_t)len;
        memcpy(at, s->results[i].name, len);
        at = put(at + len, s->results[i].count);
    }
    ensure((size_t)(at - into) <= STATS_BLOB_MAX);
    return (size_t)(at - into);
}

static uint64_t take(struct span *s)
{
    uint64_t v = le64_get(s->at);
    s->at += 8;
    s->len -= 8;
    return v;
}

static void take_histogram(struct span *s, struct output_histogram *h)
{
    for (unsigned i = 0; i < OUTPUT_HISTOGRAM_BUCKETS; i++) {
        uint64_t n = take(s);
        h->buckets[i] += n;
        h->count += n;
    }
    h->sum_s += (double)take(s) / 1e6;
}

void stats_load(struct stats *s, struct span blob)
{
    if (blob.len < 4 + 5 * 8 + 2 * 15 * 8 || blob.at[0] != STATS_VERSION)
        return;
    unsigned results = blob.at[1];
    blob.at += 4;
    blob.len -= 4;
    s->requests += take(&blob);
    s->retries += take(&blob);
    s->repeated += take(&blob);
    s->bytes_out += take(&blob);
    (void)take(&blob); /* reserved */
    take_histogram(&blob, &s->request_seconds);
    take_histogram(&blob, &s->commit_seconds);
    while (results-- > 0 && blob.len > 0) {
        size_t len = blob.at[0];
        if (blob.len < 1 + len + 8)
            return;
        struct stats_result *r = find(s, span_of(blob.at + 1, len));
        blob.at += 1 + len;
        blob.len -= 1 + len;
        r->count += take(&blob);
    }
}
