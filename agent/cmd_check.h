/* cmd_check: `penstock check -c FILE` judges a configuration without touching any spool. */
#ifndef PENSTOCK_AGENT_CMD_CHECK_H
#define PENSTOCK_AGENT_CMD_CHECK_H

/* argv[0] is the command's own name. Answers the exit code: 0 good, 78 faulty, 64 for a wrong command line.
 */
int cmd_check(int argc, char **argv);

#endif
