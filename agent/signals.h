/* signals: SIGTERM and SIGINT stop, SIGHUP reloads, SIGUSR1 flushes; SIGPIPE is ignored. */
#ifndef PENSTOCK_AGENT_SIGNALS_H
#define PENSTOCK_AGENT_SIGNALS_H

struct agent;

/* Holds SIGHUP and SIGUSR1 back until signals_open(), so that neither ends a process that has not read its configuration. */
void signals_hold(void);
void signals_open(struct agent *a);
void signals_close(struct agent *a);

#endif
