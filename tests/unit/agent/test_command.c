/* command: the tables of the commands hold what --help, the manual and the completions are made of. */
#include "agent/cmd.h"

#include <criterion/criterion.h>
#include <getopt.h>
#include <string.h>

Test(command, every_command_has_all_its_help)
{
    for (unsigned i = 0; commands[i] != NULL; i++) {
        const struct command *c = commands[i];
        cr_assert(c->name != NULL && c->run != NULL && c->brief != NULL && c->about != NULL && c->exits != NULL);
        cr_expect(c->usage[0] != NULL, "%s", c->name);
        cr_expect(c->examples != NULL && c->examples[0].line != NULL, "%s has no example", c->name);
        for (const struct command_example *e = c->examples; e->line != NULL; e++)
            cr_expect(strstr(e->line, "penstock ") != NULL && e->says != NULL, "%s", e->line);
        cr_expect(strstr(c->exits, "64 ") != NULL, "%s does not say its exit codes", c->name);
        cr_expect_eq(command_find(c->name), c);
    }
    cr_expect(command_find("nonesuch") == NULL);
}

Test(command, no_option_is_there_twice)
{
    for (unsigned i = 0; commands[i] != NULL; i++) {
        const struct command_option *all = commands[i]->options;
        for (const struct command_option *o = all; o != NULL && o->name != NULL; o++) {
            cr_expect(o->key != 'h' && strcmp(o->name, "help") != 0, "--help is each command's");
            cr_expect(o->help != NULL && o->help[0] != '\0', "%s --%s", commands[i]->name, o->name);
            for (const struct command_option *other = all; other < o; other++)
                cr_expect(other->key != o->key && strcmp(other->name, o->name) != 0, "%s --%s", commands[i]->name,
                          o->name);
        }
    }
}

Test(command, reads_options_in_any_order_with_their_values)
{
    char *argv[] = {"tap", "--limit=3", "operand", "-c", "file", "--type", "a.*", NULL};
    const char *value;
    cr_expect_eq(command_next(&cmd_tap, 7, argv, &value), 'n');
    cr_expect_str_eq(value, "3");
    cr_expect_eq(command_next(&cmd_tap, 7, argv, &value), 'c');
    cr_expect_str_eq(value, "file");
    cr_expect_eq(command_next(&cmd_tap, 7, argv, &value), 't');
    cr_expect_str_eq(value, "a.*");
    cr_expect_eq(command_next(&cmd_tap, 7, argv, &value), COMMAND_END);
    cr_expect_eq(optind, 6);
}

Test(command, tells_mistakes_from_options)
{
    const char *value;
    static char *const lines[][3] = {
        {"tap", "--limt", NULL}, {"tap", "--limit", NULL}, {"tap", "-x", NULL}, {"tap", "--help=1", NULL}};
    for (unsigned i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char *argv[] = {lines[i][0], lines[i][1], NULL};
        cr_expect_eq(command_next(&cmd_tap, 2, argv, &value), COMMAND_MISTAKE, "%s", argv[1]);
    }
    cr_expect_eq(command_left(COMMAND_MISTAKE), 64);
    cr_expect_eq(command_left(COMMAND_HELP), 0);
}
