/* main: one binary, many commands. Each command is a file, cmd_NAME.c, whose entry gets its own name as argv[0]. */
#include "agent/command.h"
#include "agent/exit.h"
#include "lib/config/schema.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Started without one of its standard descriptors, the program would get its number for the next file that is opened, and
 * write diagnostics into a spool or the loop's own pipes. What takes the place can be neither read nor written. */
static void fill_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/", O_PATH); /* the lowest number that is free: this one */
}

static void usage(FILE *to)
{
    (void)fprintf(to, "penstock: a durable event forwarder\n\nusage: penstock COMMAND [OPTION…]\n\ncommands:\n");
    for (unsigned i = 0; commands[i] != NULL; i++)
        (void)fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->brief);
    (void)fprintf(to, "\n`penstock COMMAND --help` says more.\n"
                      "\nexamples:\n"
                      "  penstock check -c /etc/penstock/penstock.yaml\n"
                      "  penstock run -c /etc/penstock/penstock.yaml\n"
                      "  penstock status --watch\n");
}

static int unknown(const char *name)
{
    const char *names[32];
    unsigned n = 0;
    for (; commands[n] != NULL && n + 1 < sizeof names / sizeof names[0]; n++)
        names[n] = commands[n]->name;
    names[n] = NULL;
    (void)fprintf(stderr, "penstock: there is no command '%s'; the nearest one is %s; see `penstock --help`\n", name,
                  schema_nearest(name, names));
    return EXIT_USAGE_ERROR;
}

/* `penstock help COMMAND` is `penstock COMMAND --help`. */
static int help(int argc, char **argv)
{
    if (argc < 2) {
        usage(stdout);
        return 0;
    }
    const struct command *c = command_find(argv[1]);
    if (c == NULL)
        return unknown(argv[1]);
    command_help(c, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE_ERROR;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return help(argc - 1, argv + 1);
    if (strcmp(name, "--version") == 0)
        name = "version";
    const struct command *c = command_find(name);
    return c != NULL ? c->run(argc - 1, argv + 1) : unknown(name);
}
