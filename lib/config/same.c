/* same: what a reload may leave alone. Two configurations are compared member by member along the table of
 * keys, so that a key which is added there cannot be forgotten here. */
#include "lib/config/judge.h"

#include "lib/base/ensure.h"

#include <stdio.h>

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same_listen(const struct config_listen *a, const struct config_listen *b)
{
    return a->kind == b->kind && a->port == b->port && same_text(a->host, b->host) &&
           same_text(a->path, b->path);
}

static bool same_headers(const struct config_output *a, const struct config_output *b)
{
    if (a->header_count != b->header_count)
        return false;
    for (unsigned i = 0; i < a->header_count; i++)
        if (!same_text(a->headers[i].name, b->headers[i].name) ||
            !same_text(a->headers[i].value.template, b->headers[i].value.template))
            return false;
    return true;
}

static bool same_users(const struct config_input *a, const struct config_input *b)
{
    if (a->forward.user_count != b->forward.user_count)
        return false;
    for (unsigned i = 0; i < a->forward.user_count; i++)
        if (!same_text(a->forward.users[i].name, b->forward.users[i].name) ||
            !same_text(a->forward.users[i].password.template, b->forward.users[i].password.template))
            return false;
    return true;
}

static bool same_ids(const uint32_t *a, unsigned a_count, const uint32_t *b, unsigned b_count)
{
    return a_count == b_count && (a_count == 0 || memcmp(a, b, a_count * sizeof *a) == 0);
}

static bool same_targets(const struct config_route *a, const struct config_route *b)
{
    if (a->to_count != b->to_count)
        return false;
    for (unsigned i = 0; i < a->to_count; i++)
        if (!same_text(a->to[i], b->to[i]))
            return false;
    return true;
}

static bool same_value(const struct schema_key *key, const void *a, const void *b)
{
    const void *x = (const char *)a + key->offset, *y = (const char *)b + key->offset;
    switch (key->type) {
    case SCHEMA_STRING:
    case SCHEMA_FILE:
    case SCHEMA_PATH:
    case SCHEMA_USER:
    case SCHEMA_GROUP:
        return same_text(*(const char *const *)x, *(const char *const *)y);
    case SCHEMA_SECRET:
        return same_text(((const struct config_secret *)x)->template,
                         ((const struct config_secret *)y)->template);
    case SCHEMA_LISTEN:
    case SCHEMA_SOCKET:
        return same_listen(x, y);
    case SCHEMA_PROXY:
        if (!same_text(((const struct config_output *)a)->proxy_auth.template,
                       ((const struct config_output *)b)->proxy_auth.template))
            return false;
        return same_text(((const struct config_url *)x)->text, ((const struct config_url *)y)->text);
    case SCHEMA_URL:
        return same_text(((const struct config_url *)x)->text, ((const struct config_url *)y)->text);
    case SCHEMA_RATE:
        return memcmp(x, y, sizeof(struct config_rate)) == 0;
    case SCHEMA_CONCURRENCY:
        return value_number(x, key->size) == value_number(y, key->size) &&
               ((const struct config_output *)a)->concurrency_auto ==
                   ((const struct config_output *)b)->concurrency_auto;
    case SCHEMA_HEADERS: /* credentials' are in the same array */
        return same_headers(a, b);
    case SCHEMA_USERS:
        return same_users(a, b);
    case SCHEMA_NAMES:
        return same_targets(a, b);
    case SCHEMA_UIDS:
    case SCHEMA_GIDS: {
        const struct config_input *in = a, *other = b;
        return same_ids(in->allow.uids, in->allow.uid_count, other->allow.uids, other->allow.uid_count) &&
               same_ids(in->allow.gids, in->allow.gid_count, other->allow.gids, other->allow.gid_count);
    }
    default:
        return value_number(x, key->size) == value_number(y, key->size);
    }
}

/* Keys of other types hold nothing in both: they compare equal. */
static bool same_keys(const struct schema_key *keys, const void *a, const void *b)
{
    for (const struct schema_key *key = keys; key->name != NULL; key++) {
        if ((key->flags & SCHEMA_OPTION) != 0)
            continue;
        if (key->type == SCHEMA_SECTION ? !same_keys(key->children, a, b) : !same_value(key, a, b))
            return false;
    }
    return true;
}

static bool same_options(const struct config_output *a, const struct config_output *b)
{
    if (a->option_count != b->option_count)
        return false;
    for (unsigned i = 0; i < a->option_count; i++)
        if (!same_text(a->options[i].name, b->options[i].name) ||
            !same_text(a->options[i].value, b->options[i].value))
            return false;
    return true;
}

bool config_input_same(const struct config_input *a, const struct config_input *b)
{
    return same_text(a->name, b->name) && same_keys(schema_input, a, b);
}

bool config_output_same(const struct config_output *a, const struct config_output *b)
{
    return same_text(a->name, b->name) && same_options(a, b) && same_keys(schema_output, a, b);
}

bool config_admin_same(const struct config_admin *a, const struct config_admin *b)
{
    return same_keys(schema_admin, a, b);
}

bool config_agent_same(const struct config_agent *a, const struct config_agent *b)
{
    return same_keys(schema_agent, a, b);
}

bool config_routes_same(const struct config *a, const struct config *b)
{
    if (a->route_count != b->route_count)
        return false;
    for (unsigned i = 0; i < a->route_count; i++)
        if (a->routes[i].when.api_set != b->routes[i].when.api_set ||
            !same_keys(schema_route, &a->routes[i], &b->routes[i]))
            return false;
    return true;
}

static unsigned collect_restart(const char *section, const struct schema_key *keys, const void *a,
                                const void *b, struct bytes *into)
{
    unsigned count = 0;
    for (const struct schema_key *key = keys; key->name != NULL; key++) {
        if ((key->flags & SCHEMA_RESTART) == 0 || same_value(key, a, b))
            continue;
        enum err err = bytes_printf(into, "%s%s.%s", into->len > 0 ? ", " : "", section, key->name);
        ensure(err == OK);
        count++;
    }
    return count;
}

unsigned config_restart_keys(const struct config *old, const struct config *new, char *into, size_t size)
{
    struct bytes names;
    bytes_init(&names, 4096);
    unsigned count = collect_restart("agent", schema_agent, &old->agent, &new->agent, &names);
    count += collect_restart("admin", schema_admin, &old->admin, &new->admin, &names);
    (void)snprintf(into, size, "%.*s", SPAN_FMT(bytes_span(&names)));
    bytes_deinit(&names);
    return count;
}
