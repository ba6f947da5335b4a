/* json_peer: jansson behind an interface of its own, since its names collide with those of lib/codec/json.h.
 */
#ifndef PENSTOCK_TESTS_JSON_PEER_H
#define PENSTOCK_TESTS_JSON_PEER_H

#include "lib/base/bytes.h"

enum json_peer_says { PEER_VALID, PEER_INVALID, PEER_CANNOT_TELL };

/* `ret_text` (may be NULL) is set when it finds fault; static until the next call. */
enum json_peer_says json_peer_check(struct span text, const char **ret_text);
/* Both texts are valid and mean the same. */
bool json_peer_same(struct span a, struct span b);
/* The text is a string whose contents are `contents`. */
bool json_peer_is_string(struct span text, struct span contents);

#endif
