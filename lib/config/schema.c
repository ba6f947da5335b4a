/* schema: what can be asked of the table of keys. See schema.h. */
#include "lib/config/schema.h"

#include "lib/base/ensure.h"
#include "lib/config/config.h"
#include "lib/config/value.h"

#include <stdio.h>

const char *const config_input_type_names[CONFIG_INPUT_TYPES + 1] = {
    [CONFIG_INPUT_HTTP] = "http",
    [CONFIG_INPUT_UNIX] = "unix",
    [CONFIG_INPUT_UNIX_DGRAM] = "unix_dgram",
    [CONFIG_INPUT_UDP] = "udp",
};

const char *const config_output_type_names[CONFIG_OUTPUT_TYPES + 1] = {
    [CONFIG_OUTPUT_CLOUDEVENTS] = "cloudevents",
    [CONFIG_OUTPUT_HONEYCOMB] = "honeycomb",
    [CONFIG_OUTPUT_LANGFUSE] = "langfuse",
    [CONFIG_OUTPUT_LAUNCHDARKLY] = "launchdarkly",
    [CONFIG_OUTPUT_MONK] = "monk",
    [CONFIG_OUTPUT_SEGOPS] = "segops",
    [CONFIG_OUTPUT_OTLP] = "otlp",
    [CONFIG_OUTPUT_HTTP] = "http",
};

bool schema_has(const struct schema_key *key, unsigned type_bit)
{
    return key->types == 0 || (key->types & type_bit) != 0;
}

const char *schema_default(const struct schema_key *key, unsigned type)
{
    if (key->by_type != NULL && key->by_type[type] != NULL)
        return key->by_type[type];
    return key->fallback;
}

static void add(char *into, size_t size, const char *text)
{
    size_t len = strlen(into);
    (void)snprintf(into + len, size - len, "%s", text);
}

/* "a, b or c" */
static void add_choices(char *into, size_t size, const char *const *choices)
{
    for (unsigned i = 0; choices[i] != NULL; i++) {
        if (i > 0)
            add(into, size, choices[i + 1] == NULL ? " or " : ", ");
        add(into, size, choices[i]);
    }
}

const char *schema_type_text(const struct schema_key *key, char *into, size_t size)
{
    into[0] = '\0';
    if (key->type == SCHEMA_ENUM)
        add_choices(into, size, key->choices);
    else
        add(into, size, value_types[key->type].words);
    if ((key->flags & SCHEMA_ALLOW_NEVER) != 0)
        add(into, size, " or never");
    if ((key->flags & SCHEMA_ALLOW_UNIX) != 0)
        add(into, size, ", unix:PATH");
    if ((key->flags & SCHEMA_ALLOW_OFF) != 0)
        add(into, size, " or false");
    return into;
}

const char *schema_expected(const struct schema_key *key, char *into, size_t size)
{
    into[0] = '\0';
    if (key->type == SCHEMA_ENUM) {
        add(into, size, "one of ");
        add_choices(into, size, key->choices);
    } else {
        add(into, size, value_types[key->type].expected);
    }
    if ((key->flags & SCHEMA_ALLOW_NEVER) != 0)
        add(into, size, ", or never");
    if ((key->flags & SCHEMA_ALLOW_UNIX) != 0)
        add(into, size, ", or unix:PATH");
    if ((key->flags & SCHEMA_ALLOW_OFF) != 0)
        add(into, size, ", or false");
    return into;
}

/* --- nearest name ----------------------------------------------------------------------------------------
 */

#define NEAREST_MAX 63 /* bytes that are compared; names of ours are shorter */

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b. */
static unsigned distance(const char *a, const char *b)
{
    unsigned rows[3][NEAREST_MAX + 1] = {0};
    size_t a_len = strnlen(a, NEAREST_MAX), b_len = strnlen(b, NEAREST_MAX);
    unsigned *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t k = 0; k <= b_len; k++)
        last[k] = (unsigned)k;
    for (size_t i = 1; i <= a_len; i++) {
        now[0] = (unsigned)i;
        for (size_t k = 1; k <= b_len; k++) {
            unsigned replace = last[k - 1] + (lower(a[i - 1]) != lower(b[k - 1]));
            now[k] = least(replace, least(last[k], now[k - 1]) + 1);
            if (i > 1 && k > 1 && lower(a[i - 1]) == lower(b[k - 2]) && lower(a[i - 2]) == lower(b[k - 1]))
                now[k] = least(now[k], before[k - 2] + 1);
        }
        unsigned *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[b_len];
}

const char *schema_nearest(const char *name, const char *const *names)
{
    const char *best = NULL;
    unsigned best_distance = 0;
    for (; *names != NULL; names++) {
        unsigned d = distance(name, *names);
        if (best == NULL || d < best_distance) {
            best = *names;
            best_distance = d;
        }
    }
    return best;
}

/* --- the table as a manual needs it --------------------------------------------------------------------- */

struct walk {
    void (*row)(void *ctx, const struct schema_row *row);
    void *ctx;
    const char *const *type_names;
    char path[120];
};

static void types_text(const struct walk *w, unsigned types, char *into, size_t size)
{
    into[0] = '\0';
    for (unsigned i = 0; types != 0 && w->type_names != NULL && w->type_names[i] != NULL; i++) {
        if ((types & (1u << i)) == 0)
            continue;
        add(into, size, into[0] == '\0' ? "" : ", ");
        add(into, size, w->type_names[i]);
    }
}

/* "1000" when all agree, else "honeycomb 1000, monk 5000". */
static void default_text(const struct walk *w, const struct schema_key *key, unsigned types, char *into,
                         size_t size)
{
    const char *common = NULL;
    bool differ = false, first = true;
    into[0] = '\0';
    for (unsigned i = 0; w->type_names != NULL && w->type_names[i] != NULL; i++) {
        const char *one = types == 0 || (types & (1u << i)) != 0 ? schema_default(key, i) : NULL;
        if (types != 0 && (types & (1u << i)) == 0)
            continue;
        if (!first && (common == NULL ? one != NULL : one == NULL || strcmp(common, one) != 0))
            differ = true;
        common = one;
        first = false;
    }
    if (w->type_names == NULL || !differ) {
        add(into, size,
            w->type_names == NULL ? (key->fallback != NULL ? key->fallback : "")
            : common != NULL      ? common
                                  : "");
        return;
    }
    for (unsigned i = 0; w->type_names[i] != NULL; i++) {
        if ((types != 0 && (types & (1u << i)) == 0) || schema_default(key, i) == NULL)
            continue;
        add(into, size, into[0] == '\0' ? "" : ", ");
        add(into, size, w->type_names[i]);
        add(into, size, " ");
        add(into, size, schema_default(key, i));
    }
}

/* A value that the key takes: its default, or what its type looks like. */
static const char *example(const struct walk *w, const struct schema_key *key)
{
    static const char *const examples[SCHEMA_TYPES] = {
        [SCHEMA_STRING] = "text",
        [SCHEMA_SECRET] = "${file:/etc/penstock/secret}",
        [SCHEMA_DURATION] = "30s",
        [SCHEMA_SIZE] = "1MiB",
        [SCHEMA_COUNT] = "1000",
        [SCHEMA_BOOL] = "false",
        [SCHEMA_FILE] = "/etc/penstock/file.pem",
        [SCHEMA_PATH] = "/var/lib/penstock",
        [SCHEMA_LISTEN] = "127.0.0.1:4380",
        [SCHEMA_SOCKET] = "/run/penstock/penstock.sock",
        [SCHEMA_URL] = "https://collector.example.com",
        [SCHEMA_PROXY] = "http://proxy:3128",
        [SCHEMA_MODE] = "\"0660\"",
        [SCHEMA_USER] = "penstock",
        [SCHEMA_GROUP] = "penstock",
        [SCHEMA_RATE] = "60/1m",
        [SCHEMA_CONCURRENCY] = "4",
        [SCHEMA_TLS_VERSION] = "\"1.2\"",
        [SCHEMA_HEADERS] = "{ X-Extra: value }",
        [SCHEMA_USERS] = "{ app: \"${env:FORWARD_PASSWORD}\" }",
        [SCHEMA_NAMES] = "[telemetry, billing]",
        [SCHEMA_UIDS] = "[app, 1000]",
        [SCHEMA_GIDS] = "[app, 1000]",
    };
    const char *text = key->fallback;
    for (unsigned i = 0; text == NULL && key->by_type != NULL && w->type_names != NULL && w->type_names[i] != NULL; i++)
        text = schema_default(key, i);
    if (text == NULL)
        text = key->type == SCHEMA_ENUM ? key->choices[0] : examples[key->type];
    return text;
}

static void walk_keys(struct walk *w, const struct schema_key *keys, unsigned types)
{
    size_t mark = strlen(w->path);
    for (const struct schema_key *key = keys; key->name != NULL; key++) {
        unsigned here = key->types != 0 ? key->types : types;
        (void)snprintf(w->path + mark, sizeof w->path - mark, ".%s", key->name);
        if (key->type == SCHEMA_SECTION) {
            walk_keys(w, key->children, here);
            continue;
        }
        char type[200], usual[300], only[200];
        default_text(w, key, here, usual, sizeof usual);
        types_text(w, here, only, sizeof only);
        struct schema_row row = {.path = w->path,
                                 .key = key,
                                 .type_text = schema_type_text(key, type, sizeof type),
                                 .default_text = usual,
                                 .types_text = only,
                                 .help = key->help,
                                 .example = example(w, key)};
        w->row(w->ctx, &row);
    }
    w->path[mark] = '\0';
}

void schema_walk(void (*row)(void *ctx, const struct schema_row *row), void *ctx)
{
    for (const struct schema_section *s = schema_sections; s->name != NULL; s++) {
        struct walk w = {.row = row, .ctx = ctx, .type_names = s->type_names};
        (void)snprintf(w.path, sizeof w.path, "%s%s", s->name,
                       s->shape == SCHEMA_NAMED  ? ".NAME"
                       : s->shape == SCHEMA_EACH ? "[]"
                                                 : "");
        walk_keys(&w, s->keys, 0);
    }
}
