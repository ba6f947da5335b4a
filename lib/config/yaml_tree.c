/* yaml_tree: see yaml_tree.h.
 *
 * libyaml's event API feeds a stack of open collections; the stack is as deep as YAML_DEPTH_MAX. What is
 * refused but does not break the structure (an alias, a doubled key) leaves a node or none, and reading goes
 * on. libyaml's marks count characters from the start, without a byte order mark; `struct ruler` turns such
 * an index into a line and a byte column by walking on from the last one it was asked for. */
#include "lib/config/yaml_tree.h"

#include "lib/base/ensure.h"

#include <stdio.h>
#include <yaml.h>

struct ruler {
    struct span text; /* without the byte order mark */
    size_t bom;       /* bytes left out */
    size_t index;     /* characters before `at` */
    size_t at;        /* bytes */
    size_t line_start;
    unsigned line;
};

struct tree {
    yaml_parser_t parser;
    struct ruler ruler;
    struct arena *arena;
    yaml_fault_fn *fault;
    void *ctx;
    struct yaml_node *root;
    struct yaml_node *open[YAML_DEPTH_MAX];
    struct yaml_node *last[YAML_DEPTH_MAX]; /* last child of open[i] */
    bool wants_value[YAML_DEPTH_MAX];       /* open[i] is a mapping whose key was read */
    bool skip_value[YAML_DEPTH_MAX];        /* and that key was refused */
    const char *key[YAML_DEPTH_MAX];
    struct yaml_pos key_pos[YAML_DEPTH_MAX];
    unsigned depth;
    unsigned nodes;
    unsigned documents;
    bool failed;
};

static void ruler_start(struct ruler *r)
{
    r->index = r->at = r->line_start = 0;
    r->line = 1;
}

static void ruler_init(struct ruler *r, struct span text)
{
    static const uint8_t nothing[1];
    if (text.at == NULL)
        text = span_of(nothing, 0);
    r->bom = span_starts(text, SPAN("\xef\xbb\xbf")) ? 3 : 0;
    r->text = span_of(text.at + r->bom, text.len - r->bom);
    ruler_start(r);
}

static void ruler_step(struct ruler *r)
{
    if (r->text.at[r->at] == '\n') {
        r->line++;
        r->line_start = r->at + 1;
    }
    r->at++;
    while (r->at < r->text.len && (r->text.at[r->at] & 0xC0) == 0x80)
        r->at++;
}

static struct yaml_pos ruler_here(const struct ruler *r)
{
    /* The mark is part of the first line, as an editor sees it. */
    size_t bom = r->line == 1 ? r->bom : 0;
    return (struct yaml_pos){r->line, (unsigned)(r->at - r->line_start + bom + 1)};
}

static struct yaml_pos ruler_index(struct ruler *r, size_t index)
{
    if (index < r->index)
        ruler_start(r);
    while (r->index < index && r->at < r->text.len) {
        ruler_step(r);
        r->index++;
    }
    return ruler_here(r);
}

static struct yaml_pos ruler_byte(struct ruler *r, size_t offset)
{
    ruler_start(r);
    while (r->at < offset && r->at < r->text.len)
        ruler_step(r);
    struct yaml_pos pos = ruler_here(r);
    ruler_start(r);
    return pos;
}

static struct yaml_pos mark_pos(struct tree *t, const yaml_mark_t *mark)
{
    return ruler_index(&t->ruler, mark->index);
}

static void refuse(struct tree *t, struct yaml_pos pos, const char *text)
{
    t->fault(t->ctx, pos, text);
}

static void fail(struct tree *t, struct yaml_pos pos, const char *text)
{
    refuse(t, pos, text);
    t->failed = true;
}

static void fail_syntax(struct tree *t)
{
    char text[300];
    const yaml_parser_t *p = &t->parser;
    const char *problem = p->problem != NULL ? p->problem : "unreadable";
    if (p->error == YAML_READER_ERROR) {
        (void)snprintf(text, sizeof text, "not YAML in UTF-8: %s", problem);
        fail(t, ruler_byte(&t->ruler, p->problem_offset), text);
        return;
    }
    (void)snprintf(text, sizeof text, "not valid YAML: %s%s%s", problem, p->context != NULL ? ", " : "",
                   p->context != NULL ? p->context : "");
    fail(t, mark_pos(t, &p->problem_mark), text);
}

static struct yaml_node *node_new(struct tree *t, enum yaml_kind kind, struct yaml_pos pos)
{
    if (++t->nodes > YAML_NODES_MAX) {
        fail(t, pos, "more values than a configuration may have");
        return NULL;
    }
    struct yaml_node *n = arena_alloc(t->arena, sizeof *n);
    if (n == NULL) {
        fail(t, pos, "larger than a configuration may be");
        return NULL;
    }
    *n = (struct yaml_node){.kind = kind, .pos = pos, .key_pos = pos};
    return n;
}

static const char *copy_text(struct tree *t, const yaml_char_t *at, size_t len, struct yaml_pos pos)
{
    char *copy = arena_alloc(t->arena, len + 1);
    if (copy == NULL) {
        fail(t, pos, "larger than a configuration may be");
        return NULL;
    }
    if (len > 0)
        memcpy(copy, at, len);
    copy[len] = '\0';
    return copy;
}

/* Puts a finished or opening node where the stack says. */
static void attach(struct tree *t, struct yaml_node *n)
{
    if (t->depth == 0) {
        t->root = n;
        return;
    }
    unsigned top = t->depth - 1;
    struct yaml_node *parent = t->open[top];
    if (parent->kind == YAML_MAP) {
        ensure(t->wants_value[top]);
        n->key = t->key[top];
        n->key_pos = t->key_pos[top];
        t->wants_value[top] = false;
        if (t->skip_value[top]) {
            t->skip_value[top] = false;
            return;
        }
    }
    if (t->last[top] == NULL)
        parent->first = n;
    else
        t->last[top]->next = n;
    t->last[top] = n;
    parent->count++;
}

static bool wants_key(const struct tree *t)
{
    return t->depth > 0 && t->open[t->depth - 1]->kind == YAML_MAP && !t->wants_value[t->depth - 1];
}

static void take_key(struct tree *t, const yaml_event_t *e)
{
    unsigned top = t->depth - 1;
    struct yaml_pos pos = mark_pos(t, &e->start_mark);
    const char *key = copy_text(t, e->data.scalar.value, e->data.scalar.length, pos);
    if (key == NULL)
        return;
    t->key[top] = key;
    t->key_pos[top] = pos;
    t->wants_value[top] = true;
    t->skip_value[top] = false;
    if (strlen(key) != e->data.scalar.length || key[0] == '\0') {
        refuse(t, pos, "expected a name before the colon");
        t->skip_value[top] = true;
        return;
    }
    const struct yaml_node *twin = yaml_child(t->open[top], key);
    if (twin != NULL) {
        char text[200];
        (void)snprintf(text, sizeof text, "\"%.60s\" is here twice; it was first given in line %u", key,
                       twin->key_pos.line);
        refuse(t, pos, text);
        t->skip_value[top] = true;
    }
}

static void on_scalar(struct tree *t, const yaml_event_t *e)
{
    struct yaml_pos pos = mark_pos(t, &e->start_mark);
    if (e->data.scalar.tag != NULL)
        refuse(t, pos, "tags (!…) are not taken here");
    if (wants_key(t)) {
        take_key(t, e);
        return;
    }
    struct yaml_node *n = node_new(t, YAML_SCALAR, pos);
    if (n == NULL)
        return;
    n->text = copy_text(t, e->data.scalar.value, e->data.scalar.length, pos);
    if (n->text == NULL)
        return;
    n->text_len = e->data.scalar.length;
    n->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    attach(t, n);
}

static void on_open(struct tree *t, const yaml_event_t *e, enum yaml_kind kind, bool tagged)
{
    struct yaml_pos pos = mark_pos(t, &e->start_mark);
    if (tagged)
        refuse(t, pos, "tags (!…) are not taken here");
    if (wants_key(t)) {
        fail(t, pos, "expected a name before the colon");
        return;
    }
    if (t->depth == YAML_DEPTH_MAX) {
        fail(t, pos, "nested deeper than a configuration may be");
        return;
    }
    struct yaml_node *n = node_new(t, kind, pos);
    if (n == NULL)
        return;
    attach(t, n);
    t->open[t->depth] = n;
    t->last[t->depth] = NULL;
    t->wants_value[t->depth] = false;
    t->skip_value[t->depth] = false;
    t->depth++;
}

static void on_alias(struct tree *t, const yaml_event_t *e)
{
    struct yaml_pos pos = mark_pos(t, &e->start_mark);
    if (wants_key(t)) {
        fail(t, pos, "aliases (*name) are not taken here");
        return;
    }
    refuse(t, pos, "aliases (*name) are not taken here; write the value out");
    struct yaml_node *n = node_new(t, YAML_SCALAR, pos);
    if (n == NULL)
        return;
    n->text = "";
    attach(t, n);
}

static void on_document(struct tree *t, const yaml_event_t *e)
{
    if (++t->documents > 1)
        fail(t, mark_pos(t, &e->start_mark), "a second document begins here; a configuration is one");
}

static void on_event(struct tree *t, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        on_document(t, e);
        break;
    case YAML_SCALAR_EVENT:
        on_scalar(t, e);
        break;
    case YAML_MAPPING_START_EVENT:
        on_open(t, e, YAML_MAP, e->data.mapping_start.tag != NULL);
        break;
    case YAML_SEQUENCE_START_EVENT:
        on_open(t, e, YAML_LIST, e->data.sequence_start.tag != NULL);
        break;
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        ensure(t->depth > 0);
        t->depth--;
        break;
    case YAML_ALIAS_EVENT:
        on_alias(t, e);
        break;
    default:
        break;
    }
}

struct yaml_node *yaml_tree_parse(struct span text, struct arena *arena, yaml_fault_fn *fault, void *ctx)
{
    struct tree t = {.arena = arena, .fault = fault, .ctx = ctx};
    ruler_init(&t.ruler, text);
    if (t.ruler.text.len == 0)
        return NULL; /* libyaml wants something to point at */
    int initialised = yaml_parser_initialize(&t.parser);
    ensure(initialised == 1 && "out of memory");
    yaml_parser_set_encoding(&t.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&t.parser, t.ruler.text.at, t.ruler.text.len);
    bool ended = false;
    while (!ended && !t.failed) {
        yaml_event_t e;
        if (!yaml_parser_parse(&t.parser, &e)) {
            fail_syntax(&t);
            break;
        }
        ended = e.type == YAML_STREAM_END_EVENT;
        on_event(&t, &e);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&t.parser);
    return t.failed ? NULL : t.root;
}

struct yaml_node *yaml_child(const struct yaml_node *map, const char *key)
{
    if (map == NULL || map->kind != YAML_MAP)
        return NULL;
    for (struct yaml_node *n = map->first; n != NULL; n = n->next)
        if (strcmp(n->key, key) == 0)
            return n;
    return NULL;
}

bool yaml_is_null(const struct yaml_node *n)
{
    if (n->kind != YAML_SCALAR || n->quoted)
        return false;
    return n->text_len == 0 || strcmp(n->text, "null") == 0 || strcmp(n->text, "~") == 0;
}
