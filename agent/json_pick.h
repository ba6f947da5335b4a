/* json_pick: single values out of a checked JSON text, for commands that show what the agent's admin answers. */
#ifndef PENSTOCK_AGENT_JSON_PICK_H
#define PENSTOCK_AGENT_JSON_PICK_H

#include "lib/base/bytes.h"

/* The text of the member at a dotted path ("spool.bytes"); .at NULL when there is none. */
struct span pick(struct span object, const char *path);
/* 0 when absent or no such number. */
uint64_t pick_u64(struct span object, const char *path);
double pick_double(struct span object, const char *path);
bool pick_true(struct span object, const char *path);
/* Unescaped and cut to size. False (and "") when absent or no string. */
bool pick_string(struct span object, const char *path, char *into, size_t size);
/* A stranger's text for a terminal: what would move its cursor becomes spaces (control characters, U+0080 to U+009F too). */
void pick_clean(char *text);
/* The next element of an array, from *cursor (0 first); .at NULL at the end. */
struct span pick_next(struct span array, size_t *cursor);
/* The next member's value of an object of numbers, with its key. */
struct span pick_member(struct span object, size_t index, struct span *ret_key);

#endif
