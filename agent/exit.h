/* exit: the exit codes of every command (sysexits(3) where there is one). */
#ifndef PENSTOCK_AGENT_EXIT_H
#define PENSTOCK_AGENT_EXIT_H

#define EXIT_USAGE_ERROR 64
#define EXIT_REFUSED 65       /* some of the input was refused, or a spool is damaged */
#define EXIT_UNREACHABLE 69   /* cannot reach the agent */
#define EXIT_INTERNAL 70
#define EXIT_CANT_CREATE 73   /* a file, directory or socket, or one is in use */
#define EXIT_STORAGE_FAILED 74
#define EXIT_NO_PERMISSION 77
#define EXIT_BAD_CONFIG 78    /* configuration, or a spool of an unknown version */

#endif
