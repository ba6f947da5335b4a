/* secret: ${env:NAME} and ${file:PATH}.
 *
 * A file's content is taken without the line ends at its end, as editors and secret stores leave them there.
 * `$${` stands for a literal `${`. Values live in memory of their own, outside the config's arena, so that
 * they can be wiped when they are replaced or let go. */
#include "lib/config/judge.h"

#include "lib/base/ensure.h"

#include <stdlib.h>

static enum err expand_variable(struct span name, const struct config_env *env, struct bytes *into,
                                struct fault *why)
{
    char text[256];
    if (name.len == 0 || name.len >= sizeof text)
        return fault_set(why, ERR_CONFIG, "expected the name of an environment variable in ${env:NAME}");
    memcpy(text, name.at, name.len);
    text[name.len] = '\0';
    const char *value = env->variable(env->ctx, text);
    if (value == NULL)
        return fault_set(why, ERR_CONFIG, "environment variable %s is not set", text);
    if (bytes_append(into, span_str(value)) != OK)
        return fault_set(why, ERR_TOO_BIG, "environment variable %s is too long", text);
    return OK;
}

static enum err expand_file(struct span path, const struct config_env *env, struct bytes *into,
                            struct fault *why)
{
    char text[1024];
    if (path.len == 0 || path.len >= sizeof text)
        return fault_set(why, ERR_CONFIG, "expected the path of a file in ${file:PATH}");
    memcpy(text, path.at, path.len);
    text[path.len] = '\0';
    size_t before = into->len;
    enum err err = env->read_file(env->ctx, text, into, why);
    if (err == ERR_TOO_BIG)
        return fault_set(why, err, "%s is larger than a secret may be", text);
    if (err != OK)
        return err;
    while (into->len > before && (into->at[into->len - 1] == '\n' || into->at[into->len - 1] == '\r'))
        into->len--;
    return OK;
}

static enum err expand_one(struct span inside, const struct config_env *env, struct bytes *into,
                           struct fault *why)
{
    if (span_starts(inside, SPAN("env:")))
        return expand_variable(span_of(inside.at + 4, inside.len - 4), env, into, why);
    if (span_starts(inside, SPAN("file:")))
        return expand_file(span_of(inside.at + 5, inside.len - 5), env, into, why);
    return fault_set(why, ERR_CONFIG,
                     "expected ${env:NAME} or ${file:PATH} after \"$\"; write $${ for a literal ${");
}

enum err secret_expand(struct span text, const struct config_env *env, struct bytes *into, bool *ret_refers,
                       struct fault *why)
{
    *ret_refers = false;
    size_t i = 0;
    while (i < text.len) {
        struct span rest = span_of(text.at + i, text.len - i);
        enum err err = OK;
        if (span_starts(rest, SPAN("$${"))) {
            err = bytes_append(into, SPAN("${"));
            i += 3;
        } else if (span_starts(rest, SPAN("${"))) {
            const uint8_t *end = memchr(rest.at, '}', rest.len);
            if (end == NULL)
                return fault_set(why, ERR_CONFIG, "expected a closing brace after ${");
            size_t len = (size_t)(end - rest.at);
            *ret_refers = true;
            err = expand_one(span_of(rest.at + 2, len - 2), env, into, why);
            if (err != OK)
                return err;
            i += len + 1;
        } else {
            err = bytes_append_byte(into, text.at[i]);
            i++;
        }
        if (err != OK)
            return fault_set(why, err, "longer than %u bytes once its references are resolved",
                             CONFIG_SECRET_MAX);
    }
    return OK;
}

static void wipe(struct bytes *b)
{
    if (b->at != NULL)
        explicit_bzero(b->at, b->cap);
    bytes_deinit(b);
}

/* Values end up in header lines: what would break one out of its line is no secret but a mistake. */
static enum err resolve(struct span template, const struct config_env *env, struct bytes *into,
                        bool *ret_refers, struct fault *why)
{
    /* Grown at once, so that no piece of a secret stays behind in memory that was let go. */
    if (bytes_reserve(into, CONFIG_SECRET_MAX) != OK)
        return fault_set(why, ERR_TOO_BIG, "too long");
    enum err err = secret_expand(template, env, into, ret_refers, why);
    if (err != OK)
        return err;
    if (into->len == 0)
        return fault_set(why, ERR_CONFIG, "expected a value, but it is empty");
    for (size_t i = 0; i < into->len; i++)
        if (into->at[i] < 0x20 || into->at[i] == 0x7F)
            return fault_set(why, ERR_CONFIG, "holds a line break or another control character");
    return OK;
}

static void adopt(struct config_secret *s, const struct bytes *resolved)
{
    /* One byte more than said, a NUL, so that libraries which want text can have it. */
    uint8_t *copy = must_alloc(resolved->len + 1);
    memcpy(copy, resolved->at, resolved->len);
    s->value = span_of(copy, resolved->len);
}

static void drop_value(struct config_secret *s)
{
    if (s->value.at == NULL)
        return;
    uint8_t *own = (uint8_t *)(uintptr_t)s->value.at;
    explicit_bzero(own, s->value.len);
    free(own);
    s->value = (struct span){0};
}

enum err secret_account(struct judge *j, size_t len, struct fault *why)
{
    j->expanded += len;
    if (j->expanded > SECRET_EXPANDED_MAX)
        return fault_set(why, ERR_TOO_BIG, "the references of this file bring in more than 4MiB");
    return OK;
}

enum err secret_set(struct judge *j, struct config_secret *s, struct span template, struct fault *why)
{
    struct bytes resolved;
    bytes_init(&resolved, CONFIG_SECRET_MAX);
    s->template = judge_copy(j, template);
    enum err err = resolve(template, j->env, &resolved, &s->refers, why);
    if (err == OK)
        err = secret_account(j, resolved.len, why);
    if (err == OK) {
        adopt(s, &resolved);
        ensure(j->secrets != NULL);
        s->next = *j->secrets;
        *j->secrets = s;
    }
    wipe(&resolved);
    return err;
}

void secret_wipe(struct config_secret *chain)
{
    for (struct config_secret *s = chain; s != NULL; s = s->next)
        drop_value(s);
}

/* --- again ---------------------------------------------------------------------------------------------- */

struct fresh {
    struct bytes value;
    enum err err;
    struct fault why;
};

struct config_secrets_fresh {
    unsigned count;
    struct fresh *all; /* one for each of the chain, in its order; empty where there are no references */
};

static void read_one(const struct config_secret *s, const struct config_env *env, struct fresh *ret)
{
    bool refers;
    bytes_init(&ret->value, CONFIG_SECRET_MAX);
    ret->err = OK;
    if (s->template != NULL && s->refers)
        ret->err = resolve(span_str(s->template), env, &ret->value, &refers, &ret->why);
}

/* Lets go of what was read. */
static enum err adopt_one(struct config_secret *s, struct fresh *fresh, bool *ret_changed, struct fault *why)
{
    enum err err = fresh->err;
    *ret_changed = false;
    if (err != OK) {
        *why = fresh->why;
    } else if (s->template != NULL && s->refers && !span_equal(bytes_span(&fresh->value), s->value)) {
        drop_value(s);
        adopt(s, &fresh->value);
        *ret_changed = true;
    }
    wipe(&fresh->value);
    return err;
}

enum err config_secret_refresh(struct config_secret *s, const struct config_env *env, bool *ret_changed,
                               struct fault *why)
{
    struct fresh fresh;
    read_one(s, env, &fresh);
    return adopt_one(s, &fresh, ret_changed, why);
}

bool config_secrets_refer(const struct config_secret *chain)
{
    const struct config_secret *s = chain;
    while (s != NULL && !s->refers)
        s = s->next;
    return s != NULL;
}

struct config_secrets_fresh *config_secrets_read(const struct config_secret *chain, const struct config_env *env)
{
    struct config_secrets_fresh *fresh = must_alloc(sizeof *fresh);
    unsigned count = 0;
    for (const struct config_secret *s = chain; s != NULL; s = s->next)
        count++;
    fresh->count = count;
    fresh->all = must_alloc((count + 1) * sizeof *fresh->all);
    count = 0;
    for (const struct config_secret *s = chain; s != NULL; s = s->next)
        read_one(s, env, &fresh->all[count++]);
    return fresh;
}

void config_secrets_forget(struct config_secrets_fresh *fresh)
{
    if (fresh == NULL)
        return;
    for (unsigned i = 0; i < fresh->count; i++)
        wipe(&fresh->all[i].value);
    free(fresh->all);
    free(fresh);
}

enum err config_secrets_adopt(struct config_secret *chain, struct config_secrets_fresh *fresh, bool *ret_changed,
                              struct fault *why)
{
    enum err first = OK;
    unsigned at = 0;
    *ret_changed = false;
    for (struct config_secret *s = chain; s != NULL; s = s->next, at++) {
        bool changed;
        struct fault later;
        ensure(at < fresh->count);
        enum err err = adopt_one(s, &fresh->all[at], &changed, first == OK ? why : &later);
        if (first == OK)
            first = err;
        *ret_changed = *ret_changed || changed;
    }
    config_secrets_forget(fresh);
    return first;
}

enum err config_secrets_refresh(struct config_secret *chain, const struct config_env *env, bool *ret_changed,
                                struct fault *why)
{
    return config_secrets_adopt(chain, config_secrets_read(chain, env), ret_changed, why);
}
