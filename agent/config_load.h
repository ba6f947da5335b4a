/* config_load: the configuration file and the machine it is judged on. Shared by `check`, `run` and reload.
 *
 * lib/config does no I/O; what it asks for (variables, files, users, groups) is answered here. All calls
 * block on local files and the user database: run them before the loop, or off it. They keep no state
 * but the host's name and may be called from any thread. */
#ifndef PENSTOCK_AGENT_CONFIG_LOAD_H
#define PENSTOCK_AGENT_CONFIG_LOAD_H

#include "lib/config/config.h"

#include <stdio.h>

/* This machine, also for config_secrets_refresh(). Static. */
const struct config_env *config_load_env(void);

/* Reads and judges the file. NULL when there are faults, also when it cannot be read or is empty (exit 78).
 * The report must have been initialised and is the caller's. */
struct config *config_load(const char *path, struct config_report *report);

/* One line per message: "FILE:LINE:COLUMN: text", "warning: " or "note: " in front of what is no fault.
 * Faults go to `faults`, the others to `others`; either may be NULL. */
void config_load_print(const struct config_report *report, const char *path, FILE *faults, FILE *others);

#endif
