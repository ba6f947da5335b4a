/* schema: every key of the table misspelt, mistyped, doubled, under a foreign type, and at its own default.
 * The texts are made from the table itself, so that a new key is tested as soon as it is there. */
#include "lib/config/schema.h"

#include "tests/unit/config/fake_env.h"

#include <criterion/criterion.h>
#include <stdio.h>

struct place {
    char text[4000];
    unsigned line, indent; /* of the last key written */
    unsigned key_column, value_column;
};

static void put(struct place *p, const char *text)
{
    size_t len = strlen(p->text);
    cr_assert(len + strlen(text) < sizeof p->text);
    memcpy(p->text + len, text, strlen(text) + 1);
}

/* Writes "  name:" on a line of its own, one level deeper than the last. */
static void put_key(struct place *p, const char *name, bool dash)
{
    char line[200];
    if (p->line > 0)
        put(p, "\n");
    (void)snprintf(line, sizeof line, "%*s%s%.100s:", (int)p->indent, "", dash ? "- " : "", name);
    put(p, line);
    p->line++;
    p->key_column = p->indent + (dash ? 2 : 0) + 1;
    p->value_column = (unsigned)strlen(line) + 2;
    p->indent += dash ? 4 : 2;
}

/* The way down to a key; `type` is the type of the input or output, or NULL. */
static void put_path(struct place *p, const char *path, const char *type)
{
    char copy[200];
    (void)snprintf(copy, sizeof copy, "%s", path);
    *p = (struct place){0};
    bool dash = false;
    for (char *name = copy; name != NULL;) {
        char *dot = strchr(name, '.');
        if (dot != NULL)
            *dot = '\0';
        char *each = strstr(name, "[]");
        if (each != NULL)
            *each = '\0';
        put_key(p, strcmp(name, "NAME") == 0 ? "x" : name, dash);
        dash = each != NULL;
        if (strcmp(name, "NAME") == 0 && dot != NULL && type != NULL && strcmp(dot + 1, "type") != 0) {
            char line[100];
            (void)snprintf(line, sizeof line, "\n%*stype: %s", (int)p->indent, "", type);
            put(p, line);
            p->line++;
        }
        name = dot == NULL ? NULL : dot + 1;
    }
}

static const char *const *type_names_of(const char *path)
{
    if (strncmp(path, "inputs", 6) == 0)
        return config_input_type_names;
    return strncmp(path, "outputs", 7) == 0 ? config_output_type_names : NULL;
}

/* Is `type` in "a, b, c" (all when that is empty)? */
static bool listed(const char *list, const char *type)
{
    size_t len = strlen(type);
    if (list[0] == '\0')
        return true;
    for (const char *at = list; (at = strstr(at, type)) != NULL; at += len)
        if ((at == list || at[-1] == ' ') && (at[len] == ',' || at[len] == '\0'))
            return true;
    return false;
}

/* Calls `check` for each row and each type that has it, or has it not. */
struct each {
    void (*check)(const struct schema_row *row, const char *type);
    bool foreign;
    unsigned checked;
};

static void each_type(void *ctx, const struct schema_row *row)
{
    struct each *e = ctx;
    const char *const *types = type_names_of(row->path);
    if (types == NULL) {
        if (!e->foreign)
            e->check(row, NULL);
        e->checked += !e->foreign;
        return;
    }
    for (; *types != NULL; types++) {
        if (listed(row->types_text, *types) == e->foreign)
            continue;
        e->check(row, *types);
        e->checked++;
    }
}

static void for_each(void (*check)(const struct schema_row *row, const char *type), bool foreign,
                     unsigned at_least)
{
    struct each e = {.check = check, .foreign = foreign};
    schema_walk(each_type, &e);
    cr_assert_geq(e.checked, at_least);
}

static void misspelt(const struct schema_row *row, const char *type)
{
    struct place p;
    char path[220], words[120];
    const char *name = strrchr(row->path, '.') + 1;
    (void)snprintf(path, sizeof path, "%sq", row->path);
    put_path(&p, path, type);
    put(&p, " 1\n");
    (void)snprintf(words, sizeof words, "the nearest known key is \"%s\"", name);
    bad(p.text, p.line, p.key_column, words);
}

Test(schema, every_key_misspelt_is_named_with_its_neighbour)
{
    for_each(misspelt, false, 300);
}

static void doubled(const struct schema_row *row, const char *type)
{
    struct place p;
    char again[200];
    put_path(&p, row->path, type);
    unsigned indent = p.key_column - 1;
    (void)snprintf(again, sizeof again, " a\n%*s%s: b\n", (int)indent, "", strrchr(row->path, '.') + 1);
    put(&p, again);
    bad(p.text, p.line + 1, p.key_column, "is here twice");
}

Test(schema, every_key_doubled_is_refused)
{
    for_each(doubled, false, 300);
}

static void mistyped_shape(const struct schema_row *row, const char *type)
{
    struct place p;
    if (row->key->type == SCHEMA_UIDS || row->key->type == SCHEMA_GIDS) { /* one value or a list of them */
        put_path(&p, row->path, type);
        put(&p, " { a: b }\n");
        bad(p.text, p.line, p.value_column, "expected ");
        return;
    }
    bool scalar =
        row->key->type != SCHEMA_HEADERS && row->key->type != SCHEMA_USERS && row->key->type != SCHEMA_NAMES;
    put_path(&p, row->path, type);
    put(&p, scalar ? " [ a ]\n" : " a\n");
    bad(p.text, p.line, p.value_column, "expected ");
    put_path(&p, row->path, type);
    bool map = row->key->type == SCHEMA_HEADERS || row->key->type == SCHEMA_USERS;
    put(&p, map ? " [ a ]\n" : " { a: b }\n");
    bad(p.text, p.line, p.value_column, "expected ");
}

Test(schema, every_key_of_another_shape_is_refused)
{
    for_each(mistyped_shape, false, 300);
}

static const char *wrong_value(const struct schema_key *key)
{
    static const char *const values[SCHEMA_TYPES] = {
        [SCHEMA_DURATION] = "5",
        [SCHEMA_SIZE] = "5",
        [SCHEMA_COUNT] = "5s",
        [SCHEMA_BOOL] = "yes",
        [SCHEMA_ENUM] = "nonesuch",
        [SCHEMA_FILE] = "/nonesuch",
        [SCHEMA_LISTEN] = "nowhere",
        [SCHEMA_URL] = "ftp://h",
        [SCHEMA_PROXY] = "proxy:3128",
        [SCHEMA_MODE] = "\"0999\"",
        [SCHEMA_USER] = "nonesuch",
        [SCHEMA_GROUP] = "nonesuch",
        [SCHEMA_UIDS] = "nonesuch",
        [SCHEMA_GIDS] = "4294967295",
        [SCHEMA_RATE] = "60",
        [SCHEMA_CONCURRENCY] = "many",
        [SCHEMA_TLS_VERSION] = "\"1.1\"",
        [SCHEMA_STRING] = "\"a\\nb\"",
        [SCHEMA_PATH] = "\"\"",
        [SCHEMA_SOCKET] = "\"\"",
        [SCHEMA_SECRET] = "\"${env:NOT_SET}\"",
    };
    return values[key->type];
}

static void mistyped_value(const struct schema_row *row, const char *type)
{
    struct place p;
    const char *value = wrong_value(row->key);
    if (value == NULL)
        return;
    put_path(&p, row->path, type);
    put(&p, " ");
    put(&p, value);
    put(&p, "\n");
    bad(p.text, p.line, p.value_column, row->key->type == SCHEMA_SECRET ? "NOT_SET is not set" : "expected ");
}

Test(schema, every_key_with_a_wrong_value_is_refused)
{
    for_each(mistyped_value, false, 300);
}

static void with_foreign_type(const struct schema_row *row, const char *type)
{
    struct place p;
    /* These two have a row for each of the types that have them. */
    if (strstr(row->path, ".map.subject") != NULL || strstr(row->path, ".map.extensions") != NULL)
        return;
    put_path(&p, row->path, type);
    put(&p, " a\n");
    /* A section that the type has not is refused at its own key, above this one. */
    struct config_report r;
    struct config *c = fake_parse(p.text, &r);
    cr_assert(c == NULL);
    bool found = false;
    for (unsigned i = 0; i < r.count; i++)
        found = found || (strstr(r.messages[i].text, "has no key") != NULL && r.messages[i].line > 2);
    cr_expect(found, "%s as %s", row->path, type);
    config_report_deinit(&r);
}

Test(schema, every_key_of_another_type_is_refused)
{
    for_each(with_foreign_type, true, 100);
}

static void at_its_default(const struct schema_row *row, const char *type)
{
    struct place p;
    unsigned index = 0;
    const char *const *types = type_names_of(row->path);
    for (unsigned i = 0; types != NULL && types[i] != NULL; i++)
        if (strcmp(types[i], type) == 0)
            index = i;
    const char *usual = schema_default(row->key, index);
    /* The admin socket's own keys need a socket. */
    if (usual == NULL || strcmp(row->path, "admin.mode") == 0)
        return;
    put_path(&p, row->path, type);
    put(&p, " ");
    put(&p, strcmp(usual, "*") == 0 ? "\"*\"" : usual);
    put(&p, "\n");
    struct config_report r;
    config_free(fake_parse(p.text, &r));
    for (unsigned i = 0; i < r.count; i++)
        cr_expect(r.messages[i].severity != CONFIG_FAULT || r.messages[i].line != p.line ||
                      r.messages[i].column != p.value_column,
                  "%s: %s", row->path, r.messages[i].text);
    config_report_deinit(&r);
}

Test(schema, every_default_is_a_value_that_the_file_may_hold)
{
    for_each(at_its_default, false, 300);
}

static void check_manual(void *ctx, const struct schema_row *row)
{
    unsigned *count = ctx;
    ++*count;
    cr_expect(row->help != NULL && row->help[0] != '\0', "%s has no help", row->path);
    cr_expect(row->type_text[0] != '\0', "%s has no type", row->path);
    cr_expect(row->example != NULL && row->example[0] != '\0', "%s has no example", row->path);
    size_t len = row->help == NULL ? 0 : strlen(row->help);
    cr_expect(len > 0 && (row->help[len - 1] == '.' || strstr(row->help, "…") != NULL),
              "%s: help is no sentence", row->path);
    if (strcmp(row->path, "outputs.NAME.batch.max_events") == 0)
        cr_expect(strstr(row->default_text, "monk 5000") != NULL, "%s", row->default_text);
    if (strcmp(row->path, "outputs.NAME.spool.max_bytes") == 0)
        cr_expect_str_eq(row->default_text, "8GiB");
    if (strcmp(row->path, "inputs.NAME.max_event") == 0)
        cr_expect_str_eq(row->types_text, "unix");
}

Test(schema, has_a_sentence_of_help_for_every_key)
{
    unsigned count = 0;
    schema_walk(check_manual, &count);
    cr_expect_geq(count, 100);
}

Test(schema, finds_the_nearest_name)
{
    static const char *const names[] = {"max_events", "max_bytes", "max_wait", NULL};
    static const char *const none[] = {NULL};
    cr_expect_str_eq(schema_nearest("max_evnets", names), "max_events");
    cr_expect_str_eq(schema_nearest("maxbytes", names), "max_bytes");
    cr_expect_str_eq(schema_nearest("MAX_WAIT", names), "max_wait");
    cr_expect(schema_nearest("x", none) == NULL);
}
