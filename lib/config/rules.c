/* rules: contradictions that no single row can see: listeners and who may reach them, routes and what they
 * name, addresses given twice. rules_output.c has those of outputs. */
#include "lib/config/judge.h"

#include "lib/base/ensure.h"
#include "lib/base/ip.h"

#include <stdio.h>

static const char *const unsafe_line = "or the line \"i_know_this_is_unsafe: true\" beside it";

void rules_admin(struct judge *j, const struct yaml_node *node)
{
    struct config_admin *a = &j->config->admin;
    static const char *const socket_keys[] = {"mode", "user", "group"};
    for (unsigned i = 0; i < 3; i++)
        if (a->listen.kind != CONFIG_LISTEN_UNIX && judge_find(node, socket_keys[i]) != NULL)
            judge_fault_at(j, judge_pos(node, socket_keys[i]), socket_keys[i],
                           "expected only beside \"listen: unix:PATH\", since an address has no permissions");
    a->listen.open = a->auth.token.template != NULL || a->unsafe;
    if (a->listen.kind == CONFIG_LISTEN_INET && !a->listen.loopback && !a->listen.open)
        judge_fault_at(j, judge_pos(node, "listen"), "listen",
                       "beyond loopback this needs auth: { token }, %s", unsafe_line);
}

/* A certificate and its key come together. */
static void rule_pair(struct judge *j, const struct yaml_node *node, const char *cert, const char *key)
{
    static const char *const names[2] = {"tls.cert_file", "tls.key_file"};
    bool has_cert = judge_find(node, names[0]) != NULL, has_key = judge_find(node, names[1]) != NULL;
    if (has_cert && cert != NULL && !has_key)
        judge_fault_at(j, judge_pos(node, names[0]), names[0], "expected key_file beside it");
    if (has_key && key != NULL && !has_cert)
        judge_fault_at(j, judge_pos(node, names[1]), names[1], "expected cert_file beside it");
}

void rules_input(struct judge *j, struct config_input *in, const struct yaml_node *node)
{
    bool beyond = in->listen.kind == CONFIG_LISTEN_INET && !in->listen.loopback;
    bool token = in->auth.token.template != NULL;
    in->listen.open = token || in->unsafe;
    if (beyond && !in->listen.open) {
        if (in->type == CONFIG_INPUT_HTTP)
            judge_fault_at(j, judge_pos(node, "listen"), "listen",
                           "beyond loopback this needs auth: { token }, %s", unsafe_line);
        else
            judge_fault_at(j, judge_pos(node, "listen"), "listen",
                           "anybody who reaches it can send here; expected an address on loopback, %s",
                           unsafe_line);
    }
    if (beyond && token && judge_find(node, "tls.cert_file") == NULL)
        judge_say(j, CONFIG_WARNING, judge_pos(node, "listen"),
                  "the token crosses the network in clear; give tls: { cert_file, key_file }");
    rule_pair(j, node, in->tls.cert_file, in->tls.key_file);
    if (judge_find(node, "tls.client_ca_file") != NULL && judge_find(node, "tls.cert_file") == NULL)
        judge_fault_at(j, judge_pos(node, "tls.client_ca_file"), "tls.client_ca_file",
                       "expected cert_file and key_file beside it, since only TLS carries certificates");
    struct fault why;
    if (in->tls.cert_file != NULL && in->tls.key_file != NULL && j->env->tls_usable != NULL &&
        j->env->tls_usable(j->env->ctx, true, in->tls.client_ca_file, in->tls.cert_file, in->tls.key_file, &why) != OK)
        judge_fault_at(j, judge_pos(node, "tls"), "tls", "%s", why.text);
    if (judge_find(node, "forward.users") != NULL && judge_find(node, "forward.shared_key") == NULL)
        judge_fault_at(j, judge_pos(node, "forward.users"), "forward.users", "expected shared_key beside it");
}

/* --- routes --------------------------------------------------------------------------------------------- */

static void unknown_name(struct judge *j, struct yaml_pos pos, const char *below, const char *kind,
                         const char *name, const char *const *names)
{
    const char *nearest = schema_nearest(name, names);
    judge_fault_at(j, pos, below, "expected the name of %s, not \"%.60s\"; the nearest known name is \"%s\"",
                   kind, name, nearest != NULL ? nearest : "");
}

static bool is_neutral(const struct config_route *r)
{
    return !r->when.api_set || r->when.api == CONFIG_OUTPUT_CLOUDEVENTS;
}

/* One output of a route: may these events go there? */
static void rule_target(struct judge *j, const struct config_route *r, const struct config_output *out,
                        struct yaml_pos pos)
{
    if (is_neutral(r) && out->type == CONFIG_OUTPUT_OTLP)
        judge_fault_at(j, pos, "to",
                       "neutral events cannot go to the otlp output \"%s\"; expected \"when: { api: otlp }\"",
                       out->name);
    else if (!is_neutral(r) && out->type != r->when.api)
        judge_fault_at(j, pos, "to",
                       "expected an output of type %s, since only such take that api's events; \"%s\" is of "
                       "type %s",
                       config_output_type_names[r->when.api], out->name, config_output_type_names[out->type]);
    else if (r->sample > 1 && out->type == CONFIG_OUTPUT_MONK)
        judge_fault_at(
            j, pos, "to",
            "a monk output bills what it gets and refuses sampled events; expected no sample here");
}

static void rule_targets(struct judge *j, struct config_route *r, const struct yaml_node *node)
{
    struct config *c = j->config;
    const char *names[65];
    unsigned count = 0;
    for (unsigned i = 0; i < c->output_count; i++)
        names[count++] = c->outputs[i].name;
    names[count] = NULL;
    const struct yaml_node *to = yaml_child(node, "to");
    if (to == NULL || to->kind != YAML_LIST || r->to_count == 0)
        return;
    r->to_index = judge_alloc(j, r->to_count * sizeof *r->to_index);
    unsigned index = 0;
    for (const struct yaml_node *n = to->first; n != NULL; n = n->next) {
        if (n->kind != YAML_SCALAR || yaml_is_null(n))
            continue;
        const struct config_output *out = config_find_output(c, n->text);
        for (unsigned i = 0; i < index; i++)
            if (strcmp(r->to[i], r->to[index]) == 0)
                judge_fault_at(j, n->pos, "to", "\"%.60s\" is here twice", n->text);
        if (out == NULL)
            unknown_name(j, n->pos, "to", "an output", n->text, names);
        else
            rule_target(j, r, out, n->pos);
        r->to_index[index++] = out != NULL ? (unsigned)(out - c->outputs) : 0;
    }
}

static void rule_when(struct judge *j, const struct config_route *r, const struct yaml_node *node)
{
    struct config *c = j->config;
    const char *names[65];
    unsigned count = 0;
    for (unsigned i = 0; i < c->input_count; i++)
        names[count++] = c->inputs[i].name;
    names[count] = NULL;
    bool pattern = r->when.input != NULL && strpbrk(r->when.input, "*?") != NULL;
    if (r->when.input != NULL && !pattern && config_find_input(c, r->when.input) == NULL)
        unknown_name(j, judge_pos(node, "when.input"), "when.input", "an input", r->when.input, names);
    if (r->when.api_set && r->when.api == CONFIG_OUTPUT_HTTP)
        judge_fault_at(
            j, judge_pos(node, "when.api"), "when.api",
            "no local path speaks http; expected cloudevents for neutral events, or a service's name");
}

void rules_routes(struct judge *j, const struct yaml_node *root)
{
    struct config *c = j->config;
    const struct yaml_node *list = yaml_child(root, "routes");
    const struct yaml_node *n = list != NULL && list->kind == YAML_LIST ? list->first : NULL;
    unsigned catch_all = 0; /* line of a route that takes every neutral event */
    for (unsigned i = 0; i < c->route_count; i++, n = n->next) {
        struct config_route *r = &c->routes[i];
        int len = snprintf(j->path, sizeof j->path, "routes[%u]", i);
        ensure(len > 0);
        j->path_len = (size_t)len;
        rule_when(j, r, n);
        rule_targets(j, r, n);
        if (catch_all != 0 && is_neutral(r))
            judge_say(j, CONFIG_WARNING, n->pos,
                      "never matches: the route in line %u takes every neutral event before it", catch_all);
        if (catch_all == 0 && is_neutral(r) && r->when.type == NULL && r->when.input == NULL &&
            r->when.source == NULL && r->when.subject == NULL)
            catch_all = r->line;
        judge_leave(j, 0);
    }
}

/* --- addresses ------------------------------------------------------------------------------------------ */

struct place {
    const struct config_listen *listen;
    bool datagram;
    struct yaml_pos pos;
    char path[100];
};

/* 0.0.0.0 and [::] take every address of the machine; the latter IPv4's too. */
static bool any_address(const uint8_t *address, size_t len)
{
    static const uint8_t zero[16];
    return memcmp(address, zero, len) == 0;
}

static bool same_address(const char *a, const char *b)
{
    uint8_t x[16], y[16];
    size_t x_len = ip_parse(span_str(a), x), y_len = ip_parse(span_str(b), y);
    if (any_address(x, x_len) || any_address(y, y_len))
        return true;
    return x_len == y_len && memcmp(x, y, x_len) == 0;
}

static bool collide(const struct place *a, const struct place *b)
{
    const struct config_listen *x = a->listen, *y = b->listen;
    if (x->kind != y->kind || x->kind == CONFIG_LISTEN_OFF)
        return false;
    if (x->kind == CONFIG_LISTEN_UNIX)
        return strcmp(x->path, y->path) == 0;
    if (x->port != y->port || x->port == 0 || a->datagram != b->datagram)
        return false;
    return same_address(x->host, y->host);
}

void rules_addresses(struct judge *j, const struct yaml_node *root)
{
    struct config *c = j->config;
    struct place places[65];
    unsigned count = 0;
    const struct yaml_node *admin = yaml_child(root, "admin");
    places[count++] = (struct place){&c->admin.listen, false, judge_pos(admin, "listen"), "admin.listen"};
    const struct yaml_node *inputs = yaml_child(root, "inputs");
    for (unsigned i = 0; i < c->input_count; i++) {
        const struct config_input *in = &c->inputs[i];
        const char *key = in->listen.kind == CONFIG_LISTEN_UNIX ? "path" : "listen";
        const struct yaml_node *node = yaml_child(inputs, in->name);
        struct place *p = &places[count++];
        *p = (struct place){&in->listen, in->type == CONFIG_INPUT_UDP, judge_pos(node, key), ""};
        (void)snprintf(p->path, sizeof p->path, "inputs.%.63s.%s", in->name, key);
    }
    for (unsigned i = 1; i < count; i++)
        for (unsigned k = 0; k < i; k++)
            if (collide(&places[k], &places[i]))
                judge_fault_at(j, places[i].pos, places[i].path, "%s is taken by %s already",
                               places[i].listen->text, places[k].path);
}

void rules_whole(struct judge *j, const struct yaml_node *root)
{
    const struct config *c = j->config;
    struct yaml_pos pos = judge_pos(root, "outputs");
    if (c->route_count == 0 && c->output_count > 1)
        judge_say(
            j, CONFIG_NOTE, pos,
            "there are %u outputs and no routes: neutral events are refused (no_route); vendor paths work",
            c->output_count);
    if (c->route_count == 0 && c->output_count == 1 && c->outputs[0].type == CONFIG_OUTPUT_OTLP)
        judge_say(j, CONFIG_NOTE, pos,
                  "an otlp output takes OTLP requests alone: neutral events are refused (no_route)");
    if (c->input_count == 0)
        judge_say(j, CONFIG_NOTE, judge_pos(root, "inputs"),
                  "no inputs: what the spools hold is delivered, nothing is taken");
}
