/* judge: what the parts of config share while one file is judged. Private to lib/config.
 *
 * The judge knows where in the file it is (a dotted path), collects messages, and resolves references.
 * Faults show a value as it stands in the file, never as it resolves, and nothing at all of a secret. */
#ifndef PENSTOCK_CONFIG_JUDGE_H
#define PENSTOCK_CONFIG_JUDGE_H

#include "lib/config/config.h"
#include "lib/config/schema.h"
#include "lib/config/yaml_tree.h"

#define OPTIONS_MAX 32 /* more than the table has for one api */

struct judge {
    struct config *config;
    struct arena *arena; /* the config's */
    const struct config_env *env;
    struct config_report *report;
    struct config_secret **secrets; /* chain of the input, output or admin under the pen */
    struct config_output *output;   /* the output under the pen, NULL elsewhere */
    struct config_option *options;  /* room for all that can be set; output->options when done */
    size_t output_mark;             /* length of the path at that output */
    unsigned type;                  /* of the input or output under the pen */
    bool type_known;                /* its `type` could be read */
    size_t expanded;                /* bytes that references brought in so far */
    char path[200];                 /* dotted name of the key under the pen */
    size_t path_len;
};

/* Goes down to a name; judge_leave() with the answer comes back. */
size_t judge_enter(struct judge *j, const char *name);
void judge_leave(struct judge *j, size_t mark);

/* "PATH: text". */
void judge_fault(struct judge *j, struct yaml_pos pos, const char *format, ...) PRINTF_LIKE(3, 4);
/* The same for a name below the path; `below` may be dotted. */
void judge_fault_at(struct judge *j, struct yaml_pos pos, const char *below, const char *format, ...)
    PRINTF_LIKE(4, 5);
void judge_say(struct judge *j, enum config_severity severity, struct yaml_pos pos, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* Memory and copies that live as long as the config. */
void *judge_alloc(struct judge *j, size_t size);
const char *judge_copy(struct judge *j, struct span s);

/* The node of a dotted name below `n`; NULL when it is not there or null. */
const struct yaml_node *judge_find(const struct yaml_node *n, const char *dotted);
/* Its position, or that of the nearest node above it which is there. */
struct yaml_pos judge_pos(const struct yaml_node *n, const char *dotted);

/* --- value.c and value_list.c: one scalar or small collection into its member --------------------------- */

/* Reads `node` by its row into the struct at `base`. Reports what is wrong. */
void value_read(struct judge *j, const struct schema_key *key, const struct yaml_node *node, void *base);
/* The default of the row; a default that does not parse is our own mistake. */
void value_default(struct judge *j, const struct schema_key *key, void *base);
uint64_t value_number(const void *member, size_t size); /* of a count, size, duration, enum or bool */
/* For people: "1MiB", "2500KB", "90s", "never" is up to the caller. */
const char *value_size_text(uint64_t bytes, char *into, size_t size);
const char *value_duration_text(uint64_t us, char *into, size_t size);

/* --- address.c ------------------------------------------------------------------------------------------ */

/* These answer NULL, or what was expected. Strings go to the judge's arena. */
const char *address_listen(struct judge *j, const char *text, unsigned flags, struct config_listen *ret);
const char *address_url(struct judge *j, const char *text, bool full, struct config_url *ret);
bool address_is_ip(const char *host, bool *ret_ipv6, bool *ret_loopback);
bool address_name_ok(const char *name); /* contract: [A-Za-z0-9][A-Za-z0-9_.-]{0,62} */

/* --- secret.c ------------------------------------------------------------------------------------------- */

/* References may bring in this much in one file. */
#define SECRET_EXPANDED_MAX (4u << 20)

/* Appends the text with its references replaced. Errors name the reference, never a value. */
MUST_USE enum err secret_expand(struct span text, const struct config_env *env, struct bytes *into,
                                bool *ret_refers, struct fault *why);
/* Counts what references brought in; ERR_TOO_BIG beyond SECRET_EXPANDED_MAX. */
MUST_USE enum err secret_account(struct judge *j, size_t len, struct fault *why);
/* Sets up a secret from its template (copied to the arena) and chains it. */
MUST_USE enum err secret_set(struct judge *j, struct config_secret *s, struct span template,
                             struct fault *why);
void secret_wipe(struct config_secret *chain);

/* --- rules*.c: what one table cannot say ------------------------------------------------------------------
 */

void rules_admin(struct judge *j, const struct yaml_node *node);
void rules_input(struct judge *j, struct config_input *in, const struct yaml_node *node);
void rules_output(struct judge *j, struct config_output *out, const struct yaml_node *node);
void rules_routes(struct judge *j, const struct yaml_node *root);
void rules_addresses(struct judge *j, const struct yaml_node *root);
void rules_whole(struct judge *j, const struct yaml_node *root);

#endif
