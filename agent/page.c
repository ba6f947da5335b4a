/* page: see page.h. */
#include "agent/page.h"

#include "agent/admin_answer.h"
#include "agent/agent.h"
#include "agent/page_html.h"
#include "agent/tally_store.h"
#include "lib/codec/json.h"

#include <stdio.h>
#include <string.h>

#define TOP_TYPES 20
#define NONCE_MARK "@NONCE@"
#define NONCE_BYTES 16

/* --- GET / ---------------------------------------------------------------------------------------------- */

static void make_nonce(const struct agent *a, char nonce[2 * NONCE_BYTES + 1])
{
    uint8_t random[NONCE_BYTES];
    entropy_fill(&a->entropy, random, sizeof random);
    for (unsigned i = 0; i < NONCE_BYTES; i++)
        (void)snprintf(nonce + 2 * i, 3, "%02x", random[i]);
}

static enum err put_page(struct bytes *out, const char *nonce)
{
    struct span rest = span_of(page_html, page_html_len);
    enum err err = OK;
    const uint8_t *mark;
    while (err == OK && (mark = memmem(rest.at, rest.len, NONCE_MARK, strlen(NONCE_MARK))) != NULL) {
        size_t before = (size_t)(mark - rest.at), skip = before + strlen(NONCE_MARK);
        err = bytes_append(out, span_of(rest.at, before));
        if (err == OK)
            err = bytes_append(out, span_str(nonce));
        rest = span_of(rest.at + skip, rest.len - skip);
    }
    return err == OK ? bytes_append(out, rest) : err;
}

void page_get(struct agent *a, struct bytes *scratch, struct http_conn *c, const struct http_request *r)
{
    char nonce[2 * NONCE_BYTES + 1], policy[256];
    make_nonce(a, nonce);
    bytes_clear(scratch);
    if (put_page(scratch, nonce) != OK) {
        admin_respond_error(c, r->handle, 500, "too_large", "the page does not fit");
        return;
    }
    (void)snprintf(policy, sizeof policy,
                   "default-src 'none'; style-src 'nonce-%s'; script-src 'nonce-%s'; connect-src 'self'; "
                   "base-uri 'none'; form-action 'none'; frame-ancestors 'none'", nonce, nonce);
    const struct http_field fields[] = {
        {SPAN("Content-Security-Policy"), span_str(policy)}, {SPAN("X-Content-Type-Options"), SPAN("nosniff")},
        {SPAN("Referrer-Policy"), SPAN("no-referrer")},      {SPAN("Cache-Control"), SPAN("no-store")},
    };
    struct http_answer answer = {.status = 200,
                                 .content_type = SPAN("text/html; charset=utf-8"),
                                 .body = bytes_span(scratch),
                                 .fields = fields,
                                 .field_count = sizeof fields / sizeof fields[0]};
    http_conn_answer(c, r->handle, &answer);
}

/* --- GET /page.json ------------------------------------------------------------------------------------- */

static enum err put_series(struct bytes *out, const char *name, const struct tally *t, uint64_t now_s, unsigned count,
                           uint64_t (*at)(const struct tally *t, uint64_t now_s, unsigned ago))
{
    enum err err = bytes_printf(out, ",\"%s\":[", name);
    for (unsigned ago = count; err == OK && ago-- > 0;)
        err = bytes_printf(out, "%llu%s", (unsigned long long)at(t, now_s, ago), ago == 0 ? "]" : ",");
    return err;
}

static enum err put_types(struct bytes *out, const struct tally *t, uint64_t now_s)
{
    struct tally_type top[TOP_TYPES];
    uint64_t since_s;
    unsigned count = tally_top(t, now_s, top, TOP_TYPES, &since_s);
    enum err err = bytes_printf(out, ",\"types\":{\"since\":%llu,\"top\":[", (unsigned long long)since_s);
    for (unsigned i = 0; err == OK && i < count; i++) {
        err = bytes_append(out, i == 0 ? SPAN("{\"type\":") : SPAN(",{\"type\":"));
        if (err == OK)
            err = json_append_string(out, span_of(top[i].name, top[i].name_len));
        if (err == OK)
            err = bytes_printf(out, ",\"count\":%llu,\"over\":%llu}", (unsigned long long)top[i].count,
                               (unsigned long long)top[i].over);
    }
    return err == OK ? bytes_append(out, SPAN("]}")) : err;
}

static enum err put_json(struct bytes *out, const struct tally *t, uint64_t now_s)
{
    enum err err = bytes_printf(out, "{\"now\":%llu,\"total\":%llu,\"began\":%llu", (unsigned long long)now_s,
                                (unsigned long long)t->kept.total, (unsigned long long)t->kept.began_s);
    if (err == OK)
        err = put_series(out, "minutes", t, now_s, TALLY_MINUTES, tally_minute);
    if (err == OK)
        err = put_series(out, "hours", t, now_s, TALLY_HOURS, tally_hour);
    if (err == OK)
        err = put_types(out, t, now_s);
    if (err == OK)
        err = bytes_printf(out, ",\"subjects\":{\"day\":%llu,\"week\":%llu}}\n",
                           (unsigned long long)tally_subjects_day(t, now_s),
                           (unsigned long long)tally_subjects_week(t, now_s));
    return err;
}

void page_get_json(struct agent *a, struct bytes *scratch, struct http_conn *c, const struct http_request *r)
{
    bytes_clear(scratch);
    if (put_json(scratch, tally_store_read(a->tally), clock_wall_ns(&a->clock) / NS_PER_S) != OK)
        admin_respond_error(c, r->handle, 500, "too_large", "the statistics do not fit");
    else
        admin_respond(c, r->handle, 200, SPAN("application/json"), bytes_span(scratch));
}
