/* completions: what a shell offers after `penstock`, for bash, zsh and fish. See manual.h.
 *
 * All three offer the commands first, then the command's own words and options. What follows an option is
 * completed by the kind of its value, which its word in the table tells: FILE and PATH are files, DIR a
 * directory, an api's NAME one of the names; of the rest nothing is known here, and nothing is offered. */
#include "packaging/manual/manual.h"

#include "agent/command.h"
#include "lib/config/config.h"

#include <string.h>

enum value { VALUE_NONE, VALUE_FILE, VALUE_DIRECTORY, VALUE_API, VALUE_OTHER };

static enum value value_of(const struct command_option *o)
{
    if (o->value == NULL)
        return VALUE_NONE;
    if (strcmp(o->value, "FILE") == 0 || strcmp(o->value, "PATH") == 0)
        return VALUE_FILE;
    if (strcmp(o->value, "DIR") == 0)
        return VALUE_DIRECTORY;
    return strcmp(o->name, "api") == 0 ? VALUE_API : VALUE_OTHER;
}

/* What paths follow a command: "FILE", "DIR" or "". A verb's count for the command's. */
static const char *operands_of(const struct command *c)
{
    const char *operands = c->operands != NULL ? c->operands : c->verbs != NULL ? c->verbs[0].operands : "";
    return strstr(operands, "FILE") != NULL ? "FILE" : strstr(operands, "DIR") != NULL ? "DIR" : "";
}

static bool has_letter(const struct command_option *o)
{
    return o->key < COMMAND_LONG;
}

/* The option that every command has besides its own. */
static const struct command_option help = {'h', "help", NULL, NULL, "says what there is"};

static void each_option(FILE *out, const struct command *c,
                        void (*put)(FILE *out, const struct command *c, const struct command_option *o))
{
    for (const struct command_option *o = c->options; o != NULL && o->name != NULL; o++)
        put(out, c, o);
    put(out, c, &help);
}

static void put_apis(FILE *out)
{
    for (unsigned i = 0; config_output_type_names[i] != NULL; i++)
        (void)fprintf(out, "%s%s", i == 0 ? "" : " ", config_output_type_names[i]);
}

/* Text between single quotes; `special` are further characters that get a backslash. A single quote becomes
 * the one that typesetters use, which no shell minds. */
static void put_quoted(FILE *out, const char *text, const char *special)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            (void)fputs("\u2019", out);
        else
            (void)fprintf(out, "%s%c", strchr(special, *text) != NULL ? "\\" : "", *text);
    }
}

static void put_verbs(FILE *out, const struct command *c)
{
    for (const struct command_verb *v = c->verbs; v != NULL && v->name != NULL; v++)
        (void)fprintf(out, "%s%s", v == c->verbs ? "" : " ", v->name);
}

/* --- bash --------------------------------------------------------------------------------------------------
 */

static void bash_name(FILE *out, const struct command *c, const struct command_option *o)
{
    (void)c;
    (void)fprintf(out, " --%s", o->name);
    if (has_letter(o))
        (void)fprintf(out, " -%c", o->key);
}

static void bash_value(FILE *out, const struct command *c, const struct command_option *o)
{
    (void)c;
    static const char *const action[] = {
        [VALUE_FILE] = "mapfile -t COMPREPLY < <(compgen -f -- \"$word\")",
        [VALUE_DIRECTORY] = "mapfile -t COMPREPLY < <(compgen -d -- \"$word\")",
        [VALUE_OTHER] = "COMPREPLY=()",
    };
    enum value value = value_of(o);
    if (value == VALUE_NONE)
        return;
    (void)fprintf(out, "        --%s", o->name);
    if (has_letter(o))
        (void)fprintf(out, " | -%c", o->key);
    if (value == VALUE_API) {
        (void)fputs(") mapfile -t COMPREPLY < <(compgen -W \"", out);
        put_apis(out);
        (void)fputs("\" -- \"$word\"); return ;;\n", out);
    } else {
        (void)fprintf(out, ") %s; return ;;\n", action[value]);
    }
}

static void bash_command(FILE *out, const struct command *c)
{
    const char *operands = operands_of(c);
    (void)fprintf(out, "    %s)\n        case $before in\n", c->name);
    each_option(out, c, bash_value);
    (void)fputs("        esac\n        words=\"", out);
    put_verbs(out, c);
    (void)fputs("\" options=\"", out);
    each_option(out, c, bash_name);
    (void)fprintf(out, "\" operands=%s\n        ;;\n",
                  operands[0] == 'F'   ? "-f"
                  : operands[0] == 'D' ? "-d"
                                       : "");
}

void completions_bash(FILE *out)
{
    (void)fputs("# bash completion of penstock\n"
                "_penstock()\n"
                "{\n"
                "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
                "    local words='' options='' operands=''\n"
                "    COMPREPLY=()\n"
                "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                "        mapfile -t COMPREPLY < <(compgen -W \"",
                out);
    for (const struct command *const *c = commands; *c != NULL; c++)
        (void)fprintf(out, "%s ", (*c)->name);
    (void)fputs("--help\" -- \"$word\")\n"
                "        return\n"
                "    fi\n"
                "    case ${COMP_WORDS[1]} in\n",
                out);
    for (const struct command *const *c = commands; *c != NULL; c++)
        bash_command(out, *c);
    (void)fputs("    *) return ;;\n"
                "    esac\n"
                "    [ \"$COMP_CWORD\" -eq 2 ] || words=''\n"
                "    if [[ $word == -* ]]; then\n"
                "        words=$options\n"
                "    elif [ -z \"$words\" ] && [ -n \"$operands\" ]; then\n"
                "        mapfile -t COMPREPLY < <(compgen \"$operands\" -- \"$word\")\n"
                "        return\n"
                "    fi\n"
                "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
                "}\n"
                "complete -o filenames -F _penstock penstock\n",
                out);
}

/* --- zsh ---------------------------------------------------------------------------------------------------
 */

static void zsh_form(FILE *out, const struct command_option *o, const char *form)
{
    (void)fprintf(out, "            '*%s[", form);
    put_quoted(out, o->help, "[]\\");
    (void)fputc(']', out);
    switch (value_of(o)) {
    case VALUE_NONE:
        break;
    case VALUE_FILE:
        (void)fprintf(out, ":%s:_files", o->value);
        break;
    case VALUE_DIRECTORY:
        (void)fprintf(out, ":%s:_files -/", o->value);
        break;
    case VALUE_API:
        (void)fputs(":api:(", out);
        put_apis(out);
        (void)fputc(')', out);
        break;
    case VALUE_OTHER:
        (void)fputc(':', out);
        put_quoted(out, o->value, ":\\");
        (void)fputc(':', out);
        break;
    }
    (void)fputs("' \\\n", out);
}

static void zsh_option(FILE *out, const struct command *c, const struct command_option *o)
{
    (void)c;
    char form[48];
    (void)snprintf(form, sizeof form, "--%s", o->name);
    zsh_form(out, o, form);
    if (!has_letter(o))
        return;
    (void)snprintf(form, sizeof form, "-%c", o->key);
    zsh_form(out, o, form);
}

static void zsh_command(FILE *out, const struct command *c)
{
    const char *operands = operands_of(c);
    (void)fprintf(out, "    %s)\n        _arguments \\\n", c->name);
    each_option(out, c, zsh_option);
    if (c->verbs != NULL) {
        (void)fputs("            '1:action:(", out);
        put_verbs(out, c);
        (void)fputs(")' \\\n", out);
    }
    (void)fprintf(out, "            %s\n        ;;\n",
                  operands[0] == 'F'   ? "'*:file:_files'"
                  : operands[0] == 'D' ? "'*:directory:_files -/'"
                                       : "'*: :'");
}

void completions_zsh(FILE *out)
{
    (void)fputs("#compdef penstock\n"
                "# zsh completion of penstock\n"
                "_penstock() {\n"
                "    if (( CURRENT == 2 )); then\n"
                "        local -a names=(\n",
                out);
    for (const struct command *const *c = commands; *c != NULL; c++) {
        (void)fprintf(out, "            '%s:", (*c)->name);
        put_quoted(out, (*c)->brief, ":\\");
        (void)fputs("'\n", out);
    }
    (void)fputs("        )\n"
                "        _describe command names\n"
                "        return\n"
                "    fi\n"
                "    local name=$words[2]\n"
                "    shift words\n"
                "    (( CURRENT-- ))\n"
                "    case $name in\n",
                out);
    for (const struct command *const *c = commands; *c != NULL; c++)
        zsh_command(out, *c);
    (void)fputs(
        "    esac\n"
        "}\n"
        "if [ \"$funcstack[1]\" = _penstock ]; then _penstock \"$@\"; else compdef _penstock penstock; fi\n",
        out);
}

/* --- fish --------------------------------------------------------------------------------------------------
 */

static void fish_begin(FILE *out, const char *command)
{
    (void)fprintf(out, "complete -c penstock -n '__fish_seen_subcommand_from %s'", command);
}

static void fish_option(FILE *out, const struct command *c, const struct command_option *o)
{
    enum value value = value_of(o);
    fish_begin(out, c->name);
    (void)fprintf(out, " -l %s", o->name);
    if (has_letter(o))
        (void)fprintf(out, " -s %c", o->key);
    if (value == VALUE_FILE)
        (void)fputs(" -r -F", out);
    else if (value == VALUE_DIRECTORY)
        (void)fputs(" -x -a '(__fish_complete_directories)'", out);
    else if (value != VALUE_NONE)
        (void)fputs(" -x", out);
    if (value == VALUE_API) {
        (void)fputs(" -a '", out);
        put_apis(out);
        (void)fputc('\'', out);
    }
    (void)fputs(" -d '", out);
    put_quoted(out, o->help, "\\");
    (void)fputs("'\n", out);
}

static void fish_command(FILE *out, const struct command *c)
{
    const char *operands = operands_of(c);
    (void)fprintf(out, "complete -c penstock -n __fish_use_subcommand -a %s -d '", c->name);
    put_quoted(out, c->brief, "\\");
    (void)fputs("'\n", out);
    if (c->verbs != NULL) {
        (void)fprintf(
            out,
            "complete -c penstock -n '__fish_seen_subcommand_from %s; and not __fish_seen_subcommand_from ",
            c->name);
        put_verbs(out, c);
        (void)fputs("' -a '", out);
        put_verbs(out, c);
        (void)fputs("'\n", out);
    }
    if (operands[0] == 'F') {
        fish_begin(out, c->name);
        (void)fputs(" -F\n", out);
    } else if (operands[0] == 'D') {
        fish_begin(out, c->name);
        (void)fputs(" -a '(__fish_complete_directories)'\n", out);
    }
    each_option(out, c, fish_option);
}

void completions_fish(FILE *out)
{
    (void)fputs("# fish completion of penstock\ncomplete -c penstock -f\n", out);
    for (const struct command *const *c = commands; *c != NULL; c++)
        fish_command(out, *c);
}
