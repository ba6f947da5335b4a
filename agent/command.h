/* command: what each command of the program is and takes. One table per command drives the reading of its command
 * line, its --help, the manual page and the shell completions, so that these cannot disagree. Each stands in its
 * cmd_NAME.c; command.c has the list of all and reads options by it. */
#ifndef PENSTOCK_AGENT_COMMAND_H
#define PENSTOCK_AGENT_COMMAND_H

#include "lib/base/fault.h"

#include <stdio.h>

struct command_option {
    int key;           /* what command_next() answers: the short letter, or COMMAND_LONG and up when there is none */
    const char *name;  /* of the long form, without the dashes */
    const char *value; /* what it takes, as in "URL"; NULL: nothing. FILE, DIR and PATH are paths */
    const char *usual; /* its default as text; NULL: none */
    const char *help;  /* one sentence or a few, without a line break */
};
#define COMMAND_LONG 256

/* What stands behind the command's name: `list` of `penstock dead list`. */
struct command_verb {
    const char *name;
    const char *operands; /* "OUTPUT ID" */
    const char *help;
};

struct command_example {
    const char *line; /* as it is typed */
    const char *says; /* what it is for */
};

/* Lists end with an element whose first member is NULL (options: whose name is NULL). Texts hold paragraphs with an
 * empty line between them; a line that begins with a space stays as it is. */
struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the command's own name; the result is the exit code (exit.h) */
    const char *brief;                 /* a line for the list of commands */
    const char *const *usage;          /* each form, without "penstock " */
    const char *about;
    const struct command_verb *verbs;  /* NULL: it has none */
    const struct command_option *options; /* --help, which each has, left out; NULL: no others */
    const char *operands;              /* FILE where paths of files follow, DIR for directories; NULL: none or verbs' */
    const char *more;                  /* what else there is to know; NULL: nothing */
    const char *exits;                 /* "0 good, 64 wrong command line, …" */
    const struct command_example *examples;
};

extern const struct command *const commands[]; /* NULL at the end */
const struct command *command_find(const char *name);

/* The next option of the line: its key, with its value in *ret_value. COMMAND_END: no more, operands begin at argv[optind].
 * COMMAND_HELP: help was asked for and is printed: leave with 0. COMMAND_MISTAKE: it was said what is wrong: leave with 64.
 * One command line at a time: getopt(3) is below. */
enum { COMMAND_END = -1, COMMAND_HELP = -2, COMMAND_MISTAKE = -3 };
int command_next(const struct command *c, int argc, char **argv, const char **ret_value);
/* Ends what was printed: `code`, or the exit code 74, and why, when standard output did not take all of it. */
int command_printed(const struct command *c, int code);
/* The exit code of COMMAND_HELP and COMMAND_MISTAKE. */
int command_left(int key);

void command_help(const struct command *c, FILE *to);
/* "penstock NAME: TEXT; see `penstock NAME --help`" on standard error; answers the exit code 64. */
int command_mistake(const struct command *c, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
