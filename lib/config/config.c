/* config: the walk of a parsed file along the table of keys. See config.h.
 *
 * Each section of the file meets its list of rows: unknown keys are named with their nearest neighbour, known
 * ones are read by their row's type, missing ones get the row's default. Then the rules look for
 * contradictions. Nothing stops at the first fault: a person wants to see them all. */
#include "lib/config/config.h"

#include "lib/base/ensure.h"
#include "lib/config/judge.h"

#include <stdio.h>
#include <stdlib.h>

#define INPUTS_MAX 64
#define OUTPUTS_MAX 64
#define ROUTES_MAX 1000
#define ARENA_MAX (64u << 20)
#define NAMES_MAX 64 /* keys of one section */

/* --- a section and its rows --------------------------------------------------------------------------------
 */

static const struct schema_key *find_key(const struct judge *j, const struct schema_key *keys,
                                         const char *name, const struct schema_key **ret_other)
{
    *ret_other = NULL;
    for (const struct schema_key *key = keys; key->name != NULL; key++) {
        if (strcmp(key->name, name) != 0)
            continue;
        if (!j->type_known || schema_has(key, 1u << j->type))
            return key;
        *ret_other = key;
    }
    return NULL;
}

static void unknown_key(struct judge *j, const struct schema_key *keys, const struct yaml_node *n)
{
    const char *names[NAMES_MAX + 1];
    unsigned count = 0;
    for (const struct schema_key *key = keys; key->name != NULL; key++)
        if (count < NAMES_MAX && (!j->type_known || schema_has(key, 1u << j->type)))
            names[count++] = key->name;
    names[count] = NULL;
    const char *nearest = schema_nearest(n->key, names);
    if (strcmp(n->key, "<<") == 0)
        judge_fault(j, n->key_pos, "merge keys (<<) are not taken here; write the keys out");
    else
        judge_fault(j, n->key_pos, "unknown key \"%.60s\"; the nearest known key is \"%s\"", n->key,
                    nearest != NULL ? nearest : "");
}

static void foreign_key(struct judge *j, const struct schema_key *key, const char *const *type_names,
                        const struct yaml_node *n)
{
    char have[160] = "";
    for (unsigned i = 0; type_names[i] != NULL; i++) {
        size_t len = strlen(have);
        if (schema_has(key, 1u << i))
            (void)snprintf(have + len, sizeof have - len, "%s%s", len > 0 ? ", " : "", type_names[i]);
    }
    judge_fault(j, n->key_pos, "type %s has no key \"%s\"; it belongs to %s", type_names[j->type], n->key,
                have);
}

static void fill_section(struct judge *j, const struct schema_key *keys, const char *const *type_names,
                         const struct yaml_node *node, void *base);

static void fill_key(struct judge *j, const struct schema_key *key, const char *const *type_names,
                     const struct yaml_node *node, void *base)
{
    size_t mark = judge_enter(j, key->name);
    if (key->type == SCHEMA_SECTION)
        fill_section(j, key->children, type_names, node, base);
    else if (node != NULL && !yaml_is_null(node))
        value_read(j, key, node, base);
    else
        value_default(j, key, base);
    judge_leave(j, mark);
}

static void fill_section(struct judge *j, const struct schema_key *keys, const char *const *type_names,
                         const struct yaml_node *node, void *base)
{
    const struct schema_key *other;
    if (node != NULL && yaml_is_null(node))
        node = NULL;
    if (node != NULL && node->kind != YAML_MAP) {
        judge_fault(j, node->pos, "expected a mapping with keys such as \"%s\"", keys[0].name);
        node = NULL;
    }
    for (const struct yaml_node *n = node != NULL ? node->first : NULL; n != NULL; n = n->next) {
        if (find_key(j, keys, n->key, &other) != NULL)
            continue;
        if (other != NULL)
            foreign_key(j, other, type_names, n);
        else
            unknown_key(j, keys, n);
    }
    for (const struct schema_key *key = keys; key->name != NULL; key++)
        if (find_key(j, keys, key->name, &other) == key)
            fill_key(j, key, type_names, yaml_child(node, key->name), base);
}

/* --- named things --------------------------------------------------------------------------------------- */

static void check_name(struct judge *j, const struct yaml_node *n)
{
    if (!address_name_ok(n->key))
        judge_fault(
            j, n->key_pos,
            "expected a name of at most %d letters, digits, _ . and - that begins with a letter or digit",
            CONFIG_NAME_MAX);
}

/* Which type the mapping says it has, before any of its rows can be chosen. */
static void find_type(struct judge *j, const struct yaml_node *node, const char *const *type_names,
                      const char *usual)
{
    const struct yaml_node *type = yaml_child(node, "type");
    const char *text = type != NULL && type->kind == YAML_SCALAR && !yaml_is_null(type) ? type->text : usual;
    j->type = 0;
    j->type_known = false;
    for (unsigned i = 0; text != NULL && type_names[i] != NULL; i++) {
        if (strcmp(text, type_names[i]) == 0) {
            j->type = i;
            j->type_known = true;
        }
    }
}

static void fill_input(struct judge *j, struct config_input *in, const char *name,
                       const struct yaml_node *node)
{
    size_t mark = judge_enter(j, name);
    in->name = judge_copy(j, span_str(name));
    j->secrets = &in->secrets;
    find_type(j, node, config_input_type_names, "http");
    fill_section(j, schema_input, config_input_type_names, node, in);
    if (j->type_known) {
        in->type = j->type;
        rules_input(j, in, node);
    }
    judge_leave(j, mark);
}

static void fill_inputs(struct judge *j, const struct yaml_node *node)
{
    struct config *c = j->config;
    bool usual = node == NULL || yaml_is_null(node);
    if (!usual && node->kind != YAML_MAP) {
        judge_fault(j, node->pos, "expected a mapping of names to inputs");
        return;
    }
    if (!usual && node->count > INPUTS_MAX) {
        judge_fault(j, node->pos, "expected at most %d inputs", INPUTS_MAX);
        return;
    }
    unsigned count = usual ? 1 : node->count;
    c->inputs = judge_alloc(j, (count + 1) * sizeof *c->inputs);
    if (usual) {
        fill_input(j, &c->inputs[c->input_count++], "http", NULL);
        return;
    }
    for (const struct yaml_node *n = node->first; n != NULL; n = n->next) {
        check_name(j, n);
        fill_input(j, &c->inputs[c->input_count++], n->key, n);
    }
}

static void fill_output(struct judge *j, struct config_output *out, const struct yaml_node *node)
{
    size_t mark = judge_enter(j, node->key);
    struct config_option options[OPTIONS_MAX];
    out->name = judge_copy(j, span_str(node->key));
    j->secrets = &out->secrets;
    j->output = out;
    j->output_mark = j->path_len;
    j->options = options;
    find_type(j, node, config_output_type_names, NULL);
    fill_section(j, schema_output, config_output_type_names, node, out);
    out->options = judge_alloc(j, (out->option_count + 1) * sizeof *options);
    if (out->option_count > 0)
        memcpy(out->options, options, out->option_count * sizeof *options);
    const struct yaml_node *type = yaml_child(node, "type");
    if ((node->kind == YAML_MAP || yaml_is_null(node)) && (type == NULL || yaml_is_null(type)))
        judge_fault_at(j, node->key_pos, "type",
                       "required: expected one of cloudevents, honeycomb, langfuse, "
                       "launchdarkly, monk, segops, otlp or http");
    if (j->type_known) {
        out->type = j->type;
        rules_output(j, out, node);
    }
    j->output = NULL;
    judge_leave(j, mark);
}

static void fill_outputs(struct judge *j, const struct yaml_node *node)
{
    struct config *c = j->config;
    if (node == NULL || yaml_is_null(node)) {
        struct yaml_pos pos = node != NULL ? node->key_pos : (struct yaml_pos){1, 1};
        judge_fault(j, pos, "expected at least one output");
        return;
    }
    if (node->kind != YAML_MAP || node->count == 0) {
        judge_fault(j, node->pos, "expected a mapping of names to outputs, with at least one");
        return;
    }
    if (node->count > OUTPUTS_MAX) {
        judge_fault(j, node->pos, "expected at most %d outputs", OUTPUTS_MAX);
        return;
    }
    c->outputs = judge_alloc(j, node->count * sizeof *c->outputs);
    for (const struct yaml_node *n = node->first; n != NULL; n = n->next) {
        check_name(j, n);
        if (strcmp(n->key, "LOCK") == 0)
            judge_fault(j, n->key_pos, "LOCK is the name of a file in data_dir, beside which each output has a directory "
                                       "of its name; expected another name");
        fill_output(j, &c->outputs[c->output_count++], n);
    }
}

static void fill_route(struct judge *j, struct config_route *r, const struct yaml_node *node)
{
    r->line = node->pos.line;
    fill_section(j, schema_route, NULL, node, r);
    r->when.api_set = judge_find(node, "when.api") != NULL;
    const struct yaml_node *to = yaml_child(node, "to");
    if (node->kind == YAML_MAP && (to == NULL || yaml_is_null(to)))
        judge_fault_at(j, node->pos, "to",
                       "required: expected a list of names of outputs such as [telemetry, billing]");
}

static void fill_routes(struct judge *j, const struct yaml_node *node)
{
    struct config *c = j->config;
    if (node == NULL || yaml_is_null(node))
        return;
    if (node->kind != YAML_LIST || node->count > ROUTES_MAX) {
        judge_fault(j, node->pos, "expected a list of at most %d routes, such as - { to: [telemetry] }",
                    ROUTES_MAX);
        return;
    }
    c->routes = judge_alloc(j, (node->count + 1) * sizeof *c->routes);
    for (const struct yaml_node *n = node->first; n != NULL; n = n->next) {
        char name[24];
        (void)snprintf(name, sizeof name, "[%u]", c->route_count);
        size_t mark = j->path_len;
        int len = snprintf(j->path + mark, sizeof j->path - mark, "%s", name);
        ensure(len > 0);
        j->path_len = mark + (size_t)len;
        fill_route(j, &c->routes[c->route_count++], n);
        judge_leave(j, mark);
    }
}

/* --- the whole ------------------------------------------------------------------------------------------ */

static void fill_top(struct judge *j, const struct yaml_node *root)
{
    const char *names[NAMES_MAX + 1];
    unsigned count = 0;
    for (const struct schema_section *s = schema_sections; s->name != NULL; s++)
        names[count++] = s->name;
    names[count] = NULL;
    for (const struct yaml_node *n = root->first; n != NULL; n = n->next) {
        bool known = false;
        for (unsigned i = 0; i < count; i++)
            known = known || strcmp(n->key, names[i]) == 0;
        if (!known)
            judge_fault(j, n->key_pos, "unknown key \"%.60s\"; the nearest known key is \"%s\"", n->key,
                        schema_nearest(n->key, names));
    }
}

/* Enters a section of the top level; its rows are not those of a typed thing until find_type(). */
static size_t enter_section(struct judge *j, const char *name)
{
    j->type = 0;
    j->type_known = false;
    j->secrets = NULL;
    return judge_enter(j, name);
}

static void fill_all(struct judge *j, const struct yaml_node *root)
{
    struct config *c = j->config;
    fill_top(j, root);

    size_t mark = enter_section(j, "agent");
    fill_section(j, schema_agent, NULL, yaml_child(root, "agent"), &c->agent);
    if (c->agent.name == NULL)
        c->agent.name = judge_copy(j, span_str(j->env->host_name));
    judge_leave(j, mark);

    mark = enter_section(j, "admin");
    j->secrets = &c->admin.secrets;
    fill_section(j, schema_admin, NULL, yaml_child(root, "admin"), &c->admin);
    rules_admin(j, yaml_child(root, "admin"));
    judge_leave(j, mark);

    mark = enter_section(j, "inputs");
    fill_inputs(j, yaml_child(root, "inputs"));
    judge_leave(j, mark);

    mark = enter_section(j, "outputs");
    fill_outputs(j, yaml_child(root, "outputs"));
    judge_leave(j, mark);

    mark = enter_section(j, "routes");
    fill_routes(j, yaml_child(root, "routes"));
    judge_leave(j, mark);

    rules_routes(j, root);
    rules_addresses(j, root);
    rules_whole(j, root);
}

static void on_tree_fault(void *ctx, struct yaml_pos pos, const char *text)
{
    judge_fault(ctx, pos, "%s", text);
}

static void judge_text(struct judge *j, struct span text, struct arena *tree)
{
    if (text.len > CONFIG_TEXT_MAX) {
        judge_fault(j, (struct yaml_pos){1, 1}, "the file is larger than %u bytes", CONFIG_TEXT_MAX);
        return;
    }
    const struct yaml_node *root = yaml_tree_parse(text, tree, on_tree_fault, j);
    if (root == NULL && j->report->faults > 0)
        return;
    if (root == NULL || yaml_is_null(root)) {
        judge_fault(j, (struct yaml_pos){1, 1},
                    "the file is empty; expected at least one output under \"outputs:\"");
        return;
    }
    if (root->kind != YAML_MAP) {
        judge_fault(j, root->pos, "expected a mapping with agent, admin, inputs, outputs and routes");
        return;
    }
    fill_all(j, root);
}

static int by_position(const void *a, const void *b)
{
    const struct config_message *x = a, *y = b;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    if (x->column != y->column)
        return x->column < y->column ? -1 : 1;
    return strcmp(x->text, y->text);
}

struct config *config_parse(struct span text, const char *filename, const struct config_env *env,
                            struct config_report *report)
{
    struct config *c = must_alloc(sizeof *c);
    arena_init(&c->arena, 64 << 10, ARENA_MAX);
    struct arena tree;
    arena_init(&tree, 64 << 10, 16u << 20);
    struct judge j = {.config = c, .arena = &c->arena, .env = env, .report = report};
    c->filename = judge_copy(&j, span_str(filename));
    judge_text(&j, text, &tree);
    arena_deinit(&tree);
    if (report->count > 1)
        qsort(report->messages, report->count, sizeof *report->messages, by_position);
    if (report->faults > 0) {
        config_free(c);
        return NULL;
    }
    return c;
}

void config_free(struct config *c)
{
    if (c == NULL)
        return;
    secret_wipe(c->admin.secrets);
    for (unsigned i = 0; i < c->input_count; i++)
        secret_wipe(c->inputs[i].secrets);
    for (unsigned i = 0; i < c->output_count; i++)
        secret_wipe(c->outputs[i].secrets);
    arena_deinit(&c->arena);
    free(c);
}

struct config_output *config_find_output(const struct config *c, const char *name)
{
    for (unsigned i = 0; i < c->output_count; i++)
        if (strcmp(c->outputs[i].name, name) == 0)
            return &c->outputs[i];
    return NULL;
}

struct config_input *config_find_input(const struct config *c, const char *name)
{
    for (unsigned i = 0; i < c->input_count; i++)
        if (strcmp(c->inputs[i].name, name) == 0)
            return &c->inputs[i];
    return NULL;
}

const struct config_output *config_neutral_output(const struct config *c)
{
    if (c->route_count > 0 || c->output_count != 1 || c->outputs[0].type == CONFIG_OUTPUT_OTLP)
        return NULL;
    return &c->outputs[0];
}
