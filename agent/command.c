/* command: see command.h. Options are read by getopt_long(3), whose tables are made from ours; the words for mistakes
 * are our own, since they name the nearest option. */
#include "agent/command.h"

#include "agent/cmd.h"
#include "agent/exit.h"
#include "lib/base/ensure.h"
#include "lib/config/schema.h"

#include <getopt.h>
#include <stdarg.h>
#include <string.h>

#define OPTIONS_MAX 31
#define COLUMNS 80
#define COLUMN_MAX 26 /* options' texts begin here at the latest */

const struct command *const commands[] = {
    &cmd_run,    &cmd_check, &cmd_send, &cmd_status,  &cmd_tap,
    &cmd_dead,   &cmd_spool, &cmd_sink, &cmd_version, NULL,
};

const struct command *command_find(const char *name)
{
    for (unsigned i = 0; commands[i] != NULL; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

/* --- mistakes ------------------------------------------------------------------------------------------- */

int command_mistake(const struct command *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "penstock %s: ", c->name);
    (void)vfprintf(stderr, format, args);
    (void)fprintf(stderr, "; see `penstock %s --help`\n", c->name);
    va_end(args);
    return EXIT_USAGE_ERROR;
}

int command_printed(const struct command *c, int code)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return code;
    (void)fprintf(stderr, "penstock %s: standard output does not take what was asked for\n", c->name);
    return code == 0 ? EXIT_STORAGE_FAILED : code;
}

int command_left(int key)
{
    return key == COMMAND_HELP ? 0 : EXIT_USAGE_ERROR;
}

static const struct command_option *find(const struct command *c, int key)
{
    for (const struct command_option *o = c->options; o != NULL && o->name != NULL; o++)
        if (o->key == key)
            return o;
    return NULL;
}

static void unknown_option(const struct command *c, const char *given)
{
    const char *names[OPTIONS_MAX + 2];
    unsigned n = 0;
    for (const struct command_option *o = c->options; o != NULL && o->name != NULL; o++)
        names[n++] = o->name;
    names[n++] = "help";
    names[n] = NULL;
    char name[64];
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(given + 2, "="), given + 2);
    (void)command_mistake(c, "unknown option %.60s; the nearest one is --%s", given, schema_nearest(name, names));
}

static void mistaken(const struct command *c, bool value_missing, char **argv)
{
    const struct command_option *o = find(c, optopt);
    const char *given = argv[optind - 1];
    if (value_missing && o != NULL)
        (void)command_mistake(c, "--%s needs a value: %s", o->name, o->value);
    else if (o != NULL || optopt == 'h')
        (void)command_mistake(c, "--%s takes no value", o != NULL ? o->name : "help");
    else if (strncmp(given, "--", 2) == 0)
        unknown_option(c, given);
    else
        (void)command_mistake(c, "unknown option -%c", optopt);
}

/* --- options -------------------------------------------------------------------------------------------- */

/* Which line getopt is in the middle of. */
static char **current;

static void make_tables(const struct command *c, struct option *longs, char *letters)
{
    unsigned n = 0, l = 0;
    letters[l++] = ':'; /* a missing value is told from an unknown option */
    for (const struct command_option *o = c->options; o != NULL && o->name != NULL; o++) {
        ensure(n < OPTIONS_MAX);
        longs[n++] = (struct option){o->name, o->value != NULL ? required_argument : no_argument, NULL, o->key};
        if (o->key < COMMAND_LONG) {
            letters[l++] = (char)o->key;
            if (o->value != NULL)
                letters[l++] = ':';
        }
    }
    longs[n] = (struct option){"help", no_argument, NULL, 'h'};
    letters[l++] = 'h';
    letters[l] = '\0';
}

int command_next(const struct command *c, int argc, char **argv, const char **ret_value)
{
    struct option longs[OPTIONS_MAX + 2] = {0};
    char letters[2 * OPTIONS_MAX + 3];
    make_tables(c, longs, letters);
    if (current != argv)
        optind = 0; /* makes glibc's start anew */
    current = argv;
    opterr = 0;
    int key = getopt_long(argc, argv, letters, longs, NULL);
    *ret_value = optarg;
    if (key != -1 && key != 'h' && key != '?' && key != ':')
        return key;
    current = NULL; /* the next call begins a new line */
    if (key == -1)
        return COMMAND_END;
    if (key == 'h') {
        command_help(c, stdout);
        return COMMAND_HELP;
    }
    mistaken(c, key == ':', argv);
    return COMMAND_MISTAKE;
}

/* --- help ----------------------------------------------------------------------------------------------- */

/* Columns that a UTF-8 text takes, as far as ours do. */
static unsigned width_of(const char *text, size_t len)
{
    unsigned n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

/* One paragraph, broken at spaces, its further lines indented; `column` is where the first begins. */
static void print_wrapped(FILE *to, const char *text, size_t len, unsigned column, unsigned indent)
{
    size_t at = 0;
    bool first = true;
    while (at < len) {
        const char *space = memchr(text + at, ' ', len - at);
        size_t word = space == NULL ? len - at : (size_t)(space - text) - at;
        unsigned width = width_of(text + at, word);
        if (!first && column + 1 + width > COLUMNS) {
            (void)fprintf(to, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!first) {
            (void)fputc(' ', to);
            column++;
        }
        (void)fwrite(text + at, 1, word, to);
        column += width;
        at += word + (space != NULL);
        first = false;
    }
    (void)fputc('\n', to);
}

static void print_text(FILE *to, const char *text)
{
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        if (text[0] == ' ')
            (void)fprintf(to, "%.*s\n", (int)len, text);
        else
            print_wrapped(to, text, len, 0, 0);
        text += len + (text[len] == '\n');
    }
}

static void option_form(const struct command_option *o, char *into, size_t size)
{
    char letter[8] = "";
    if (o->key < COMMAND_LONG)
        (void)snprintf(letter, sizeof letter, "-%c, ", o->key);
    (void)snprintf(into, size, "%s--%s%s%s", letter, o->name, o->value != NULL ? " " : "",
                   o->value != NULL ? o->value : "");
}

static void print_item(FILE *to, const char *form, unsigned column, const char *help, const char *usual)
{
    char text[600];
    unsigned at = 2 + width_of(form, strlen(form));
    (void)snprintf(text, sizeof text, "%s%s%s%s", help, usual != NULL ? " (default " : "", usual != NULL ? usual : "",
                   usual != NULL ? ")" : "");
    (void)fprintf(to, "  %s", form);
    if (at + 2 > column)
        (void)fprintf(to, "\n%*s", (int)column, "");
    else
        (void)fprintf(to, "%*s", (int)(column - at), "");
    print_wrapped(to, text, strlen(text), column, column);
}

static void print_options(FILE *to, const struct command *c)
{
    static const struct command_option help = {'h', "help", NULL, NULL, "this text"};
    char form[80];
    unsigned column = 0;
    for (const struct command_option *o = c->options; o != NULL && o->name != NULL; o++) {
        option_form(o, form, sizeof form);
        unsigned width = 4 + width_of(form, strlen(form));
        column = width > column && width <= COLUMN_MAX ? width : column;
    }
    column = column < 14 ? 14 : column;
    (void)fputs("\noptions:\n", to);
    for (const struct command_option *o = c->options; o != NULL && o->name != NULL; o++) {
        option_form(o, form, sizeof form);
        print_item(to, form, column, o->help, o->usual);
    }
    option_form(&help, form, sizeof form);
    print_item(to, form, column, help.help, NULL);
}

void command_help(const struct command *c, FILE *to)
{
    for (unsigned i = 0; c->usage[i] != NULL; i++)
        (void)fprintf(to, "%s penstock %s\n", i == 0 ? "usage:" : "      ", c->usage[i]);
    (void)fputc('\n', to);
    print_text(to, c->about);
    for (const struct command_verb *v = c->verbs; v != NULL && v->name != NULL; v++) {
        char form[80];
        if (v == c->verbs)
            (void)fputs("\ncommands:\n", to);
        (void)snprintf(form, sizeof form, "%s %s", v->name, v->operands);
        print_item(to, form, COLUMN_MAX, v->help, NULL);
    }
    print_options(to, c);
    if (c->more != NULL) {
        (void)fputc('\n', to);
        print_text(to, c->more);
    }
    (void)fputs("\nexit codes: ", to);
    print_wrapped(to, c->exits, strlen(c->exits), 12, 12);
    (void)fputs("\nexamples:\n", to);
    for (const struct command_example *e = c->examples; e->line != NULL; e++)
        (void)fprintf(to, "  # %s\n  %s\n", e->says, e->line);
}
