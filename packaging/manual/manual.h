/* manual: writes the manual pages and the completions of shells from the program's own tables: commands and
 * options (agent/command.h), configuration keys (lib/config/schema.h). Runs while Penstock is built. */
#ifndef PENSTOCK_PACKAGING_MANUAL_H
#define PENSTOCK_PACKAGING_MANUAL_H

#include <stdio.h>

/* The parts of the pages that come from tables, in the man(7) macros. */
void roff_commands(FILE *out);
void roff_keys(FILE *out);

void completions_bash(FILE *out);
void completions_zsh(FILE *out);
void completions_fish(FILE *out);

#endif
