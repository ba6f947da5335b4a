/* cmd: the commands' entries. argv[0] is the command's own name; the result is the exit code (exit.h). */
#ifndef PENSTOCK_AGENT_CMD_H
#define PENSTOCK_AGENT_CMD_H

int cmd_run(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_dead(int argc, char **argv);
int cmd_send(int argc, char **argv);
int cmd_sink(int argc, char **argv);
int cmd_spool(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_tap(int argc, char **argv);
int cmd_version(int argc, char **argv);

#endif
