/* glob: the patterns of routes and of `tap --type`. `*` stands for any number of characters, also none, `?`
 * for exactly one; everything else for itself, letter case included. */
#ifndef PENSTOCK_CODEC_GLOB_H
#define PENSTOCK_CODEC_GLOB_H

#include "lib/base/bytes.h"

/* All of `text` must match. A character is one of UTF-8; a byte that belongs to none counts as one. */
bool glob_match(struct span pattern, struct span text);

#endif
