/* main: one binary, many commands. Each command is a file, cmd_NAME.c, whose entry gets its own name as argv[0]. */
#include "agent/cmd.h"
#include "agent/exit.h"

#include <stdio.h>
#include <string.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static const struct command commands[] = {
    {"run", cmd_run, "run the agent in the foreground"},
    {"check", cmd_check, "validate a configuration"},
    {"send", cmd_send, "send NDJSON events to a running agent"},
    {"status", cmd_status, "what a running agent is doing"},
    {"tap", cmd_tap, "show events as they are accepted"},
    {"dead", cmd_dead, "list, show, replay or purge dead letters"},
    {"spool", cmd_spool, "verify or dump spools that no agent serves"},
    {"sink", cmd_sink, "a development upstream that speaks every api"},
    {"version", cmd_version, "version, build options, libraries"},
};

static void usage(FILE *to)
{
    (void)fprintf(to, "penstock: a durable event forwarder\n\nusage: penstock COMMAND [OPTION…]\n\ncommands:\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        (void)fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].help);
    (void)fprintf(to, "\n`penstock COMMAND --help` says more.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE_ERROR;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0)
        name = "version";
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    (void)fprintf(stderr, "penstock: there is no command '%s'; see `penstock --help`\n", name);
    return EXIT_USAGE_ERROR;
}
