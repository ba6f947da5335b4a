/* schema: the one table of configuration keys.
 *
 * Each row is one key: its name, type, default (in the notation of the file itself, per api where they
 * differ), bounds, the struct member it fills, and one sentence of help. config.c reads a file by it, the
 * comparisons of a reload go by it, `check` and the faults speak from it, and the manual's reference is
 * printed from it with schema_walk(). The rows stand in schema_agent.c and schema_output.c; schema.c knows
 * the types. */
#ifndef PENSTOCK_CONFIG_SCHEMA_H
#define PENSTOCK_CONFIG_SCHEMA_H

#include "lib/base/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum schema_type {
    SCHEMA_SECTION, /* a mapping with the keys in `children` */
    SCHEMA_STRING,
    SCHEMA_SECRET,   /* struct config_secret */
    SCHEMA_DURATION, /* 500ms 1s 5m 1h 7d, `never` where allowed: microseconds, never is 0 */
    SCHEMA_SIZE,     /* 64KiB 1MB: bytes */
    SCHEMA_COUNT,
    SCHEMA_BOOL,
    SCHEMA_ENUM,   /* index into `choices` */
    SCHEMA_FILE,   /* path of a file that exists */
    SCHEMA_PATH,   /* path of something that Penstock makes */
    SCHEMA_LISTEN, /* HOST:PORT; where allowed unix:PATH or false: struct config_listen */
    SCHEMA_SOCKET, /* path of a Unix socket: struct config_listen */
    SCHEMA_URL,    /* struct config_url */
    SCHEMA_PROXY,  /* http://[user:password@]host:port: struct config_url */
    SCHEMA_MODE,   /* octal permissions */
    SCHEMA_USER,
    SCHEMA_GROUP,
    SCHEMA_RATE,        /* N/DURATION or none: struct config_rate */
    SCHEMA_CONCURRENCY, /* a count or auto */
    SCHEMA_TLS_VERSION, /* "1.2" "1.3": 12, 13 */
    SCHEMA_HEADERS,     /* header name: secret; array and count in the struct */
    SCHEMA_USERS,       /* user name: secret */
    SCHEMA_NAMES,       /* list of names */
    SCHEMA_UIDS,        /* users, by name or number, one or a list: array of uint32_t and its count */
    SCHEMA_GIDS,        /* groups likewise */
    SCHEMA_TYPES
};

enum {
    SCHEMA_ALLOW_NEVER = 1, /* duration */
    SCHEMA_ALLOW_UNIX = 2,  /* listen */
    SCHEMA_ALLOW_OFF = 4,   /* listen: false */
    SCHEMA_OPTION = 8,      /* goes to the output's options by its dotted name */
    SCHEMA_RESTART = 16,    /* takes effect at the next start only */
    SCHEMA_REQUIRED = 32,
};

struct schema_key {
    const char *name;
    enum schema_type type;
    size_t offset, size;  /* of the member in the struct of the nearest row list that has one */
    const char *fallback; /* default; NULL: not set */
    const char *const
        *by_type;      /* default per type of input or output where it differs; entries may be NULL */
    uint64_t min, max; /* bounds in microseconds, bytes or number; max 0: none */
    unsigned flags;
    unsigned types;             /* bit set of the types of input or output that have this key; 0: all */
    const char *option_as;      /* SCHEMA_OPTION: goes by this dotted name instead of its own */
    const char *const *choices; /* of an enum, NULL at the end */
    const struct schema_key
        *children; /* of a section, `name` NULL at the end; members are offsets into the same struct */
    const char *help;
};

/* The lists of rows; each ends with a row whose name is NULL. */
extern const struct schema_key schema_agent[];  /* struct config_agent */
extern const struct schema_key schema_admin[];  /* struct config_admin */
extern const struct schema_key schema_input[];  /* struct config_input, below inputs.NAME */
extern const struct schema_key schema_output[]; /* struct config_output, below outputs.NAME */
extern const struct schema_key schema_route[];  /* struct config_route, each element of routes */

/* The top level: which names there are, what they hold. */
struct schema_section {
    const char *name;
    const struct schema_key *keys;
    enum { SCHEMA_ONE, SCHEMA_NAMED, SCHEMA_EACH } shape; /* a mapping; NAME: mapping; a list of mappings */
    const char *const *type_names;                        /* of inputs and outputs; NULL: untyped */
    const char *help;
};
extern const struct schema_section schema_sections[]; /* ends with name NULL */

bool schema_has(const struct schema_key *key, unsigned type_bit);
/* The default of a key for this type (index; ignored where there is one default for all); NULL: none. */
const char *schema_default(const struct schema_key *key, unsigned type);
/* "duration", "size", "true or false", "http, unix, unix_dgram or udp". Written to `into`; answers it. */
const char *schema_type_text(const struct schema_key *key, char *into, size_t size);
/* What a value must look like, for faults: "a duration such as 500ms, 5s or 1h". */
const char *schema_expected(const struct schema_key *key, char *into, size_t size);

/* One row as a manual needs it. All strings are good during the call. */
struct schema_row {
    const char *path; /* "outputs.NAME.batch.max_events", "routes[].when.type" */
    const struct schema_key *key;
    const char *type_text;
    const char *default_text; /* "1000", or "honeycomb 1000, monk 5000, …"; "" when there is none */
    const char *types_text;   /* the types of input or output that have it; "" for all */
    const char *help;
    const char *example; /* a value that the file may hold, its default if it has one */
};
/* Every key that holds a value, in the order of the table. */
void schema_walk(void (*row)(void *ctx, const struct schema_row *row), void *ctx);

/* The name among `names` (NULL at the end) that is nearest to `name` by edits; NULL when there are none. */
const char *schema_nearest(const char *name, const char *const *names);

#endif
