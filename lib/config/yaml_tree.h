/* yaml_tree: YAML text becomes a bounded tree whose every key and value knows its line and column.
 *
 * The configuration needs a small part of YAML: one document of mappings, sequences and scalars. Everything
 * else is refused with its position: aliases (they can grow without bound), tags, further documents,
 * keys that are no scalars, and the same key twice in a mapping. Text, depth and node count are bounded.
 * Columns are bytes from 1, as editors and compilers count them; libyaml counts characters. */
#ifndef PENSTOCK_CONFIG_YAML_TREE_H
#define PENSTOCK_CONFIG_YAML_TREE_H

#include "lib/base/bytes.h"

#include <stdbool.h>

#define YAML_DEPTH_MAX 16
#define YAML_NODES_MAX 10000

enum yaml_kind { YAML_SCALAR, YAML_MAP, YAML_LIST };

struct yaml_pos {
    unsigned line, column; /* from 1 */
};

struct yaml_node {
    enum yaml_kind kind;
    struct yaml_pos pos;     /* where the value begins */
    struct yaml_pos key_pos; /* where its key begins; the value itself in a list and at the top */
    const char *key;         /* in a mapping; else NULL */
    const char *text;        /* of a scalar, NUL-terminated; may hold further NULs, see text_len */
    size_t text_len;
    bool quoted;             /* a scalar that was written with quotes or as a block */
    struct yaml_node *first; /* children of mappings and lists, in the order of the file */
    struct yaml_node *next;  /* sibling */
    unsigned count;          /* of children */
};

/* Called once per fault; `text` is good during the call only. */
typedef void yaml_fault_fn(void *ctx, struct yaml_pos pos, const char *text);

/* Builds the tree in `arena`. Doubled keys, aliases and tags are reported and the reading goes on, so that
 * one run finds them all; a syntax fault ends it. NULL when there is no tree at all: after a syntax fault, or
 * when the text holds no node (then nothing was reported). The tree does not refer to `text`. */
struct yaml_node *yaml_tree_parse(struct span text, struct arena *arena, yaml_fault_fn *fault, void *ctx);

/* The child of that name, or NULL; also NULL when `map` is NULL or no mapping. */
struct yaml_node *yaml_child(const struct yaml_node *map, const char *key);

/* Nothing was given: an empty plain scalar, `null` or `~`. */
bool yaml_is_null(const struct yaml_node *n);

#endif
