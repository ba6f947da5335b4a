/* value: the readers of values by type. Private to lib/config; see value.c and value_list.c. */
#ifndef PENSTOCK_CONFIG_VALUE_H
#define PENSTOCK_CONFIG_VALUE_H

#include "lib/base/list.h"
#include "lib/config/judge.h"

#define US_PER_SECOND UINT64_C(1000000)

/* One value under the pen. */
struct reading {
    struct judge *judge;
    const struct schema_key *key;
    bool plain;         /* written without quotes, or made of references, or a default */
    char expected[240]; /* "expected a duration such as …" */
    char words[300];    /* room for a reader's own words */
};

/* NULL, or what was expected. `member` is NULL for an option, which has none. */
typedef const char *value_reader(struct reading *r, const char *text, void *member);

struct value_type {
    const char *words, *expected; /* NULL: made of the choices */
    value_reader *read;           /* NULL: not one scalar; see value_list.c */
};
extern const struct value_type value_types[SCHEMA_TYPES];

/* The value as it stands in the file, in quotes and cut to size, for the end of a fault. */
const char *value_shown(const struct yaml_node *node, char *into, size_t size);

#endif
