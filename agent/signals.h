/* signals: SIGTERM and SIGINT stop, SIGHUP reloads, SIGUSR1 flushes; SIGPIPE is ignored. */
#ifndef PENSTOCK_AGENT_SIGNALS_H
#define PENSTOCK_AGENT_SIGNALS_H

struct agent;

void signals_open(struct agent *a);
void signals_close(struct agent *a);

#endif
