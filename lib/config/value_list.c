/* value_list: reading a node by its row, whatever its type: scalars through value.c's table, secrets,
 * proxies and the small collections (headers, users, names) here. */
#include "lib/config/value.h"

#include "lib/base/ensure.h"
#include "lib/base/hex.h"

#include <stdio.h>

const char *value_shown(const struct yaml_node *node, char *into, size_t size)
{
    if (node->kind == YAML_MAP)
        (void)snprintf(into, size, "a mapping");
    else if (node->kind == YAML_LIST)
        (void)snprintf(into, size, "a list");
    else if (yaml_is_null(node))
        (void)snprintf(into, size, "nothing");
    else
        (void)snprintf(into, size, "\"%.60s\"%s", node->text, strlen(node->text) > 60 ? "…" : "");
    return into;
}

static void expected_fault(struct judge *j, const struct schema_key *key, const struct yaml_node *node)
{
    char expected[240], shown[100];
    bool hide = key->type == SCHEMA_SECRET && node->kind == YAML_SCALAR;
    schema_expected(key, expected, sizeof expected);
    judge_fault(j, node->pos, "expected %s%s%s", expected, hide ? "" : ", not ",
                hide ? "" : value_shown(node, shown, sizeof shown));
}

/* Adds an option that differs from its default to the output under the pen. */
static void add_option(struct judge *j, const struct schema_key *key, const char *text)
{
    const char *usual = schema_default(key, j->type);
    if (j->output == NULL || (usual != NULL && strcmp(usual, text) == 0))
        return;
    const char *name = key->option_as;
    if (name == NULL)
        name = judge_copy(j, span_str(j->path + j->output_mark + 1));
    ensure(j->output->option_count < OPTIONS_MAX);
    j->options[j->output->option_count++] = (struct config_option){name, judge_copy(j, span_str(text))};
}

static void read_scalar(struct judge *j, const struct schema_key *key, const struct yaml_node *node,
                        void *member)
{
    struct bytes text;
    struct fault why;
    bool refers;
    bytes_init(&text, CONFIG_SECRET_MAX);
    if (strlen(node->text) != node->text_len) {
        judge_fault(j, node->pos, "expected a text without NUL bytes");
    } else if (secret_expand(span_str(node->text), j->env, &text, &refers, &why) != OK ||
               secret_account(j, text.len, &why) != OK) {
        judge_fault(j, node->pos, "%s", why.text);
    } else {
        struct reading r = {.judge = j, .key = key, .plain = !node->quoted || refers};
        char expected[220], shown[100];
        (void)snprintf(r.expected, sizeof r.expected, "expected %s",
                       schema_expected(key, expected, sizeof expected));
        const char *resolved = judge_copy(j, bytes_span(&text));
        const char *fault = strlen(resolved) != text.len ? "expected a text without NUL bytes"
                                                         : value_types[key->type].read(&r, resolved, member);
        bool hide = key->type == SCHEMA_URL && strchr(node->text, '@') != NULL; /* a password may be in it */
        if (fault != NULL && hide)
            judge_fault(j, node->pos, "%s", fault);
        else if (fault != NULL)
            judge_fault(j, node->pos, "%s, not %s", fault, value_shown(node, shown, sizeof shown));
        else if ((key->flags & SCHEMA_OPTION) != 0)
            add_option(j, key, resolved);
    }
    if (text.at != NULL)
        explicit_bzero(text.at, text.cap);
    bytes_deinit(&text);
}

static void read_secret(struct judge *j, const struct yaml_node *node, struct config_secret *s)
{
    struct fault why;
    if (secret_set(j, s, span_of(node->text, node->text_len), &why) != OK)
        judge_fault(j, node->pos, "%s", why.text);
}

/* As in every URL: what could not stand in its user's part is written %XX there (%40 for @). References are left as they
 * are: what they bring in is no part of a URL. */
static enum err decode_login(struct span written, struct bytes *into)
{
    bool reference = false;
    enum err err = OK;
    for (size_t i = 0; i < written.len && err == OK; i++) {
        const char *c = (const char *)written.at + i;
        int escape = hex_escaped(written, i);
        reference = reference ? *c != '}' : *c == '$' && i + 1 < written.len && c[1] == '{';
        bool escaped = !reference && escape > 0;
        err = bytes_append_byte(into, escaped ? (uint8_t)escape : (uint8_t)*c);
        i += escaped ? 2 : 0;
    }
    return err;
}

/* http://[user:password@]host[:port]: the user's part is a secret with its own template, so that it can be
 * read again; it is cut out before anything else is looked at. */
static void read_proxy(struct judge *j, const struct yaml_node *node, struct config_url *url)
{
    const char *text = node->text, *start = strstr(text, "://"), *at = strrchr(text, '@');
    if (start != NULL && at != NULL && at > start + 3) {
        struct fault why;
        struct bytes login;
        bytes_init(&login, CONFIG_SECRET_MAX);
        enum err err = decode_login(span_of(start + 3, (size_t)(at - start - 3)), &login);
        if (err != OK)
            (void)fault_set(&why, err, "too long");
        else
            err = secret_set(j, &j->output->proxy_auth, bytes_span(&login), &why);
        if (login.at != NULL)
            explicit_bzero(login.at, login.cap);
        bytes_deinit(&login);
        if (err != OK) {
            judge_fault(j, node->pos, "user and password: %s", why.text);
            return;
        }
    } else if (at != NULL) {
        judge_fault(j, node->pos,
                    "expected a URL such as http://proxy:3128 or http://user:password@proxy:3128");
        return;
    }
    struct bytes resolved;
    struct fault why;
    bool refers;
    bytes_init(&resolved, 4096);
    struct span rest = at != NULL ? span_str(at + 1) : span_str(start != NULL ? start + 3 : text);
    enum err err = start == NULL ? OK : bytes_append(&resolved, span_of(text, (size_t)(start + 3 - text)));
    if (err == OK)
        err = secret_expand(rest, j->env, &resolved, &refers, &why);
    if (err != OK) {
        judge_fault(j, node->pos, "%s", why.text);
    } else {
        const char *fault = address_url(j, judge_copy(j, bytes_span(&resolved)), false, url);
        if (fault == NULL && (url->tls || url->path[0] != '\0'))
            fault = "expected a proxy without a path that is spoken to as http://";
        if (fault != NULL)
            judge_fault(j, node->pos, "%s", fault);
    }
    bytes_deinit(&resolved);
}

static bool header_name_ok(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && strchr("!#$%&'*+-.^_`|~", c) == NULL)
            return false;
    }
    return len > 0 && len <= 256;
}

#define HEADERS_MAX 64

static void read_headers(struct judge *j, const struct yaml_node *node, struct config_header **ret,
                         unsigned *ret_count)
{
    if (node->count > HEADERS_MAX) {
        judge_fault(j, node->pos, "expected at most %d headers", HEADERS_MAX);
        return;
    }
    *ret = judge_alloc(j, (node->count + 1) * sizeof **ret);
    for (const struct yaml_node *n = node->first; n != NULL; n = n->next) {
        struct fault why;
        if (!header_name_ok(n->key))
            judge_fault(j, n->key_pos, "expected the name of a header: letters, digits and -, not \"%.60s\"",
                        n->key);
        else if (n->kind != YAML_SCALAR || yaml_is_null(n))
            judge_fault_at(j, n->pos, n->key, "expected the header's value");
        else {
            struct config_header *h = &(*ret)[*ret_count];
            h->name = judge_copy(j, span_str(n->key));
            if (secret_set(j, &h->value, span_of(n->text, n->text_len), &why) != OK)
                judge_fault_at(j, n->pos, n->key, "%s", why.text);
            else
                ++*ret_count;
        }
    }
}

#define USERS_MAX 1000

static void read_users(struct judge *j, const struct yaml_node *node, struct config_user **ret,
                       unsigned *ret_count)
{
    if (node->count > USERS_MAX) {
        judge_fault(j, node->pos, "expected at most %d users", USERS_MAX);
        return;
    }
    *ret = judge_alloc(j, (node->count + 1) * sizeof **ret);
    for (const struct yaml_node *n = node->first; n != NULL; n = n->next) {
        struct fault why;
        struct config_user *u = &(*ret)[*ret_count];
        u->name = judge_copy(j, span_str(n->key));
        if (n->kind != YAML_SCALAR || yaml_is_null(n))
            judge_fault_at(j, n->pos, n->key, "expected this user's password");
        else if (secret_set(j, &u->password, span_of(n->text, n->text_len), &why) != OK)
            judge_fault_at(j, n->pos, n->key, "%s", why.text);
        else
            ++*ret_count;
    }
}

static void read_names(struct judge *j, const struct yaml_node *node, const char ***ret, unsigned *ret_count)
{
    if (node->count == 0) {
        judge_fault(j, node->pos, "expected at least one name");
        return;
    }
    *ret = judge_alloc(j, node->count * sizeof **ret);
    for (const struct yaml_node *n = node->first; n != NULL; n = n->next) {
        if (n->kind != YAML_SCALAR || yaml_is_null(n)) {
            judge_fault(j, n->pos, "expected the name of an output");
            continue;
        }
        (*ret)[(*ret_count)++] = judge_copy(j, span_str(n->text));
    }
}

#define IDS_MAX 1000

static bool read_id(struct judge *j, const struct schema_key *key, const char *text, uint32_t *ret)
{
    const struct config_env *env = j->env;
    uint64_t number;
    if (span_u64(span_str(text), &number)) {
        *ret = (uint32_t)number;
        return number < UINT32_MAX;
    }
    return key->type == SCHEMA_UIDS ? env->user_id(env->ctx, text, ret) : env->group_id(env->ctx, text, ret);
}

static void read_ids(struct judge *j, const struct schema_key *key, const struct yaml_node *node, uint32_t **ret,
                     unsigned *ret_count)
{
    bool list = node->kind == YAML_LIST;
    if (node->kind == YAML_MAP || (list && (node->count == 0 || node->count > IDS_MAX))) {
        expected_fault(j, key, node);
        return;
    }
    *ret = judge_alloc(j, (list ? node->count : 1) * sizeof **ret);
    for (const struct yaml_node *n = list ? node->first : node; n != NULL; n = list ? n->next : NULL) {
        if (n->kind != YAML_SCALAR || yaml_is_null(n) || !read_id(j, key, n->text, &(*ret)[*ret_count]))
            expected_fault(j, key, n);
        else
            ++*ret_count;
    }
}

/* Each of these is an array and, right behind it, its count. */
_Static_assert(offsetof(struct config_input, allow.uid_count) ==
                   offsetof(struct config_input, allow.uids) + sizeof(void *),
               "uids and their count");
_Static_assert(offsetof(struct config_input, allow.gid_count) ==
                   offsetof(struct config_input, allow.gids) + sizeof(void *),
               "gids and their count");
_Static_assert(offsetof(struct config_output, header_count) ==
                   offsetof(struct config_output, headers) + sizeof(void *),
               "headers and their count");
_Static_assert(offsetof(struct config_output, credentials.header_count) ==
                   offsetof(struct config_output, credentials.headers) + sizeof(void *),
               "headers and their count");
_Static_assert(offsetof(struct config_input, forward.user_count) ==
                   offsetof(struct config_input, forward.users) + sizeof(void *),
               "users and their count");

static unsigned *count_behind(void *member)
{
    return (unsigned *)(void *)((char *)member + sizeof(void *));
}

void value_read(struct judge *j, const struct schema_key *key, const struct yaml_node *node, void *base)
{
    void *member = (key->flags & SCHEMA_OPTION) != 0 ? NULL : (char *)base + key->offset;
    bool map = key->type == SCHEMA_HEADERS || key->type == SCHEMA_USERS;
    if (key->type == SCHEMA_UIDS || key->type == SCHEMA_GIDS) {
        read_ids(j, key, node, member, count_behind(member));
        return;
    }
    enum yaml_kind kind = map ? YAML_MAP : key->type == SCHEMA_NAMES ? YAML_LIST : YAML_SCALAR;
    if (node->kind != kind) {
        expected_fault(j, key, node);
        return;
    }
    switch (key->type) {
    case SCHEMA_SECRET:
        read_secret(j, node, member);
        break;
    case SCHEMA_PROXY:
        read_proxy(j, node, member);
        break;
    case SCHEMA_HEADERS:
        read_headers(j, node, member, count_behind(member));
        break;
    case SCHEMA_USERS:
        read_users(j, node, member, count_behind(member));
        break;
    case SCHEMA_NAMES:
        read_names(j, node, member, &((struct config_route *)base)->to_count);
        break;
    case SCHEMA_URL:
        read_scalar(j, key, node, member);
        ((struct config_url *)member)->shown = judge_copy(j, span_of(node->text, node->text_len));
        break;
    default:
        read_scalar(j, key, node, member);
        break;
    }
}

void value_default(struct judge *j, const struct schema_key *key, void *base)
{
    const char *text = schema_default(key, j->type);
    if (text == NULL || (key->flags & SCHEMA_OPTION) != 0)
        return;
    struct reading r = {.judge = j, .key = key, .plain = true};
    const char *fault = value_types[key->type].read(&r, text, (char *)base + key->offset);
    ensure(fault == NULL);
}
