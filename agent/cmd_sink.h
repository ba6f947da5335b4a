/* cmd_sink: `penstock sink --listen HOST:PORT …` is a development upstream. */
#ifndef PENSTOCK_AGENT_CMD_SINK_H
#define PENSTOCK_AGENT_CMD_SINK_H

/* argv[0] is the command's own name. Answers the exit code: 0 after SIGTERM or SIGINT, 64, 73, 77 or 78 when it cannot
 * start. */
int cmd_sink(int argc, char **argv);

#endif
