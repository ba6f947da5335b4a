/* cmd_send: `penstock send [--url URL | --socket PATH] [--type T] [FILE…]` sends NDJSON to a running agent. */
#ifndef PENSTOCK_AGENT_CMD_SEND_H
#define PENSTOCK_AGENT_CMD_SEND_H

/* argv[0] is the command's own name. Answers the exit code: 0 all accepted, 65 some refused, 69 the agent cannot be
 * reached, 64 for a wrong command line. */
int cmd_send(int argc, char **argv);

#endif
