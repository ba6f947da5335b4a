/* cmd: the commands, each in its own cmd_NAME.c. See command.h for what they are made of. */
#ifndef PENSTOCK_AGENT_CMD_H
#define PENSTOCK_AGENT_CMD_H

#include "agent/command.h"

extern const struct command cmd_run;
extern const struct command cmd_check;
extern const struct command cmd_dead;
extern const struct command cmd_send;
extern const struct command cmd_sink;
extern const struct command cmd_spool;
extern const struct command cmd_status;
extern const struct command cmd_tap;
extern const struct command cmd_version;

#endif
