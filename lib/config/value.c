/* value: one value of the file becomes one typed member. A reader per type, in one table.
 *
 * A reader gets the text with its references resolved and answers NULL, or in words what was expected; the
 * caller says where, and shows the value as it was written. Collections are read in value_list.c. */
#include "lib/config/value.h"

#include "lib/base/ensure.h"

#include <stdio.h>

/* --- numbers and units --------------------------------------------------------------------------------- */

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"B", 1},
    {"KiB", UINT64_C(1) << 10},
    {"MiB", UINT64_C(1) << 20},
    {"GiB", UINT64_C(1) << 30},
    {"TiB", UINT64_C(1) << 40},
    {"KB", 1000},
    {"kB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", UINT64_C(1000000000000)},
    {NULL, 0},
};

static const struct unit duration_units[] = {
    {"ms", 1000},
    {"s", 1000000},
    {"m", UINT64_C(60) * 1000000},
    {"h", UINT64_C(3600) * 1000000},
    {"d", UINT64_C(86400) * 1000000},
    {NULL, 0},
};

/* Digits, then exactly one of the units. */
static bool read_with_unit(const char *text, const struct unit *units, uint64_t *ret)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t number;
    if (!span_u64(span_of(text, digits), &number))
        return false;
    for (const struct unit *u = units; u->name != NULL; u++)
        if (strcmp(text + digits, u->name) == 0)
            return !__builtin_mul_overflow(number, u->factor, ret);
    return false;
}

static void print_with_unit(uint64_t value, const struct unit *units, char *into, size_t size)
{
    const struct unit *best = units;
    for (const struct unit *u = units; u->name != NULL; u++)
        if (u->factor > best->factor && value >= u->factor && value % u->factor == 0)
            best = u;
    (void)snprintf(into, size, "%llu%s", (unsigned long long)(value / best->factor), best->name);
}

const char *value_size_text(uint64_t bytes, char *into, size_t size)
{
    print_with_unit(bytes, size_units, into, size);
    return into;
}

const char *value_duration_text(uint64_t us, char *into, size_t size)
{
    print_with_unit(us, duration_units, into, size);
    return into;
}

uint64_t value_number(const void *member, size_t size)
{
    switch (size) {
    case 1:
        return *(const uint8_t *)member;
    case 4:
        return *(const uint32_t *)member;
    default:
        ensure(size == 8);
        return *(const uint64_t *)member;
    }
}

static void store_number(void *member, size_t size, uint64_t value)
{
    switch (size) {
    case 1:
        *(uint8_t *)member = (uint8_t)value;
        break;
    case 4:
        *(uint32_t *)member = (uint32_t)value;
        break;
    default:
        ensure(size == 8);
        *(uint64_t *)member = value;
        break;
    }
}

/* "expected at least 1KiB", or NULL. The text is good until the next call for this reading. */
static const char *outside(struct reading *r, uint64_t value)
{
    const struct schema_key *key = r->key;
    if (value >= key->min && (key->max == 0 || value <= key->max))
        return NULL;
    uint64_t bound = value < key->min ? key->min : key->max;
    char text[48];
    if (key->type == SCHEMA_SIZE)
        value_size_text(bound, text, sizeof text);
    else if (key->type == SCHEMA_DURATION)
        value_duration_text(bound, text, sizeof text);
    else
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)bound);
    (void)snprintf(r->words, sizeof r->words, "expected at %s %s", value < key->min ? "least" : "most", text);
    return r->words;
}

static const char *store_bounded(struct reading *r, void *member, uint64_t value)
{
    const char *fault = outside(r, value);
    if (fault == NULL)
        store_number(member, r->key->size, value);
    return fault;
}

static const char *read_size(struct reading *r, const char *text, void *member)
{
    uint64_t value = 0;
    if (strcmp(text, "0") != 0 && !read_with_unit(text, size_units, &value))
        return r->expected;
    return store_bounded(r, member, value);
}

static const char *read_duration(struct reading *r, const char *text, void *member)
{
    uint64_t value;
    if ((r->key->flags & SCHEMA_ALLOW_NEVER) != 0 && strcmp(text, "never") == 0) {
        store_number(member, r->key->size, 0);
        return NULL;
    }
    if (!read_with_unit(text, duration_units, &value))
        return r->expected;
    return store_bounded(r, member, value);
}

static const char *read_count(struct reading *r, const char *text, void *member)
{
    uint64_t value;
    if (!r->plain || !span_u64(span_str(text), &value))
        return r->expected;
    return store_bounded(r, member, value);
}

static const char *read_bool(struct reading *r, const char *text, void *member)
{
    bool yes = strcmp(text, "true") == 0;
    if (!r->plain || (!yes && strcmp(text, "false") != 0))
        return r->expected;
    if (member != NULL)
        store_number(member, r->key->size, yes);
    return NULL;
}

static const char *read_enum(struct reading *r, const char *text, void *member)
{
    for (unsigned i = 0; r->key->choices[i] != NULL; i++) {
        if (strcmp(text, r->key->choices[i]) != 0)
            continue;
        if (member != NULL)
            store_number(member, r->key->size, i);
        return NULL;
    }
    return r->expected;
}

static const char *read_concurrency(struct reading *r, const char *text, void *member)
{
    struct config_output *o = r->judge->output;
    ensure(o != NULL && member == &o->concurrency);
    o->concurrency_auto = strcmp(text, "auto") == 0;
    uint64_t value;
    if (o->concurrency_auto)
        text = schema_default(r->key, r->judge->type);
    else if (!r->plain)
        return r->expected;
    if (!span_u64(span_str(text), &value))
        return r->expected;
    return store_bounded(r, member, value);
}

static const char *read_rate(struct reading *r, const char *text, void *member)
{
    struct config_rate rate = {0};
    const char *slash = strchr(text, '/');
    if (strcmp(text, "none") != 0) {
        if (slash == NULL || !span_u64(span_of(text, (size_t)(slash - text)), &rate.requests) ||
            !read_with_unit(slash + 1, duration_units, &rate.per_us))
            return r->expected;
        if (rate.requests == 0 || rate.requests > 1000000 || rate.per_us == 0 ||
            rate.per_us > 86400 * US_PER_SECOND)
            return "expected from 1 to 1000000 requests in a time of at most 1d, such as 60/1m";
    }
    *(struct config_rate *)member = rate;
    return NULL;
}

static const char *read_mode(struct reading *r, const char *text, void *member)
{
    uint32_t mode = 0;
    size_t len = strlen(text);
    if (len < 3 || len > 4 || strspn(text, "01234567") != len)
        return r->expected;
    for (size_t i = 0; i < len; i++)
        mode = mode * 8 + (uint32_t)(text[i] - '0');
    if (mode > 0777)
        return r->expected;
    store_number(member, r->key->size, mode);
    return NULL;
}

static const char *read_tls_version(struct reading *r, const char *text, void *member)
{
    if (strcmp(text, "1.2") == 0) {
        store_number(member, r->key->size, 12);
        return NULL;
    }
    if (strcmp(text, "1.3") != 0)
        return "expected \"1.2\" or \"1.3\"; older versions of TLS are broken and not spoken";
    if (!r->judge->env->tls_1_3)
        return "expected \"1.2\": the TLS library of this build does not speak 1.3";
    store_number(member, r->key->size, 13);
    return NULL;
}

/* --- texts -----------------------------------------------------------------------------------------------
 */

static const char *read_string(struct reading *r, const char *text, void *member)
{
    size_t len = strlen(text), most = r->key->max != 0 ? r->key->max : 4095;
    if (len == 0)
        return "expected a text that is not empty; leave the key out for the default";
    if (len > most) {
        (void)snprintf(r->words, sizeof r->words, "expected a text of at most %zu bytes", most);
        return r->words;
    }
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7F)
            return "expected a text without line breaks and control characters";
    if (member != NULL)
        *(const char **)member = judge_copy(r->judge, span_of(text, len));
    return NULL;
}

static const char *read_file(struct reading *r, const char *text, void *member)
{
    const char *fault = read_string(r, text, member);
    if (fault != NULL)
        return fault;
    struct fault why;
    const struct config_env *env = r->judge->env;
    if (env->file_readable(env->ctx, text, &why) == OK)
        return NULL;
    *(const char **)member = NULL;
    (void)snprintf(r->words, sizeof r->words, "expected a file that can be read (%.180s)", why.text);
    return r->words;
}

static const char *read_user(struct reading *r, const char *text, void *member)
{
    struct config_socket *socket = CONTAINER_OF(member, struct config_socket, user);
    const struct config_env *env = r->judge->env;
    const char *fault = read_string(r, text, member);
    if (fault == NULL && !env->user_id(env->ctx, text, &socket->uid))
        return "expected a user that exists on this machine";
    return fault;
}

static const char *read_group(struct reading *r, const char *text, void *member)
{
    struct config_socket *socket = CONTAINER_OF(member, struct config_socket, group);
    const struct config_env *env = r->judge->env;
    const char *fault = read_string(r, text, member);
    if (fault == NULL && !env->group_id(env->ctx, text, &socket->gid))
        return "expected a group that exists on this machine";
    return fault;
}

static const char *read_listen(struct reading *r, const char *text, void *member)
{
    return address_listen(r->judge, text, r->key->flags, member);
}

static const char *read_socket(struct reading *r, const char *text, void *member)
{
    size_t len = strlen(text);
    if (len == 0)
        return "expected the path of a socket";
    if (len > CONFIG_SOCKET_PATH_MAX)
        return "expected a path of at most 107 bytes, which is all that a socket address holds";
    const char *path = judge_copy(r->judge, span_str(text));
    *(struct config_listen *)member =
        (struct config_listen){.kind = CONFIG_LISTEN_UNIX, .text = path, .path = path, .loopback = true};
    return NULL;
}

static const char *read_url(struct reading *r, const char *text, void *member)
{
    bool full = r->judge->type == CONFIG_OUTPUT_HTTP || r->judge->type == CONFIG_OUTPUT_CLOUDEVENTS;
    return address_url(r->judge, text, full, member);
}

/* In the order of enum schema_type. `words` is the type for manuals, `expected` for faults. */
const struct value_type value_types[SCHEMA_TYPES] = {
    [SCHEMA_SECTION] = {"mapping", "a mapping", NULL},
    [SCHEMA_STRING] = {"text", "a text", read_string},
    [SCHEMA_SECRET] = {"secret", "a secret such as ${env:NAME} or ${file:PATH}", NULL},
    [SCHEMA_DURATION] = {"duration", "a duration such as 500ms, 1s, 5m, 1h or 7d", read_duration},
    [SCHEMA_SIZE] = {"size", "a size such as 64KiB, 1MiB or 1MB", read_size},
    [SCHEMA_COUNT] = {"number", "a whole number", read_count},
    [SCHEMA_BOOL] = {"true or false", "true or false", read_bool},
    [SCHEMA_ENUM] = {NULL, NULL, read_enum},
    [SCHEMA_FILE] = {"file", "the path of a file", read_file},
    [SCHEMA_PATH] = {"path", "a path", read_string},
    [SCHEMA_LISTEN] = {"address:port", "an address and a port such as 127.0.0.1:4380", read_listen},
    [SCHEMA_SOCKET] = {"path", "the path of a socket", read_socket},
    [SCHEMA_URL] = {"URL", "a URL such as https://host/path", read_url},
    [SCHEMA_PROXY] = {"URL", "a URL such as http://proxy:3128", NULL},
    [SCHEMA_MODE] = {"octal mode", "permissions in octal such as \"0660\"", read_mode},
    [SCHEMA_USER] = {"user", "the name of a user", read_user},
    [SCHEMA_GROUP] = {"group", "the name of a group", read_group},
    [SCHEMA_RATE] = {"number/duration", "a rate such as 60/1m, or none", read_rate},
    [SCHEMA_CONCURRENCY] = {"number or auto", "a whole number or auto", read_concurrency},
    [SCHEMA_TLS_VERSION] = {"TLS version", "\"1.2\" or \"1.3\"", read_tls_version},
    [SCHEMA_HEADERS] = {"header names and values", "a mapping of header names to values", NULL},
    [SCHEMA_USERS] = {"user names and passwords", "a mapping of user names to passwords", NULL},
    [SCHEMA_NAMES] = {"list of names", "a list of names such as [telemetry, billing]", NULL},
    [SCHEMA_UIDS] = {"list of users", "a user that exists, a number, or a list of these", NULL},
    [SCHEMA_GIDS] = {"list of groups", "a group that exists, a number, or a list of these", NULL},
};
