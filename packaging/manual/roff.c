/* roff: the parts of the manual pages that come from tables, in the man(7) macros. See manual.h. */
#include "packaging/manual/manual.h"

#include "agent/command.h"
#include "lib/config/schema.h"

#include <stdbool.h>
#include <string.h>

/* One character of UTF-8 beyond ASCII: its length; its number goes to *code. Our own texts are well-formed.
 */
static size_t utf8_next(const char *at, unsigned *code)
{
    unsigned char first = (unsigned char)*at;
    size_t len = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    *code = first & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++)
        *code = *code << 6 | ((unsigned char)at[i] & 0x3Fu);
    return len;
}

/* Text that roff must not read anything into; a control character at the start of a line is made harmless. */
static void put(FILE *out, const char *text, size_t len)
{
    if (len > 0 && (text[0] == '.' || text[0] == '\''))
        (void)fputs("\\&", out);
    for (size_t i = 0; i < len;) {
        unsigned code;
        if ((unsigned char)text[i] >= 0x80) {
            i += utf8_next(text + i, &code);
            (void)fprintf(out, "\\[u%04X]", code);
            continue;
        }
        switch (text[i]) {
        case '\\':
            (void)fputs("\\e", out);
            break;
        case '-':
            (void)fputs("\\-", out);
            break;
        case '\'':
            (void)fputs("\\(aq", out);
            break;
        case '`':
            (void)fputs("\\(ga", out);
            break;
        case '^':
            (void)fputs("\\(ha", out);
            break;
        case '~':
            (void)fputs("\\(ti", out);
            break;
        default:
            (void)fputc(text[i], out);
        }
        i++;
    }
}

static void put_line(FILE *out, const char *text, size_t len)
{
    put(out, text, len);
    (void)fputc('\n', out);
}

static void put_text(FILE *out, const char *text)
{
    put(out, text, strlen(text));
}

/* --- commands ----------------------------------------------------------------------------------------------
 */

/* Paragraphs; what stands indented is shown as it is. */
static void paragraphs(FILE *out, const char *text)
{
    bool shown = false;
    (void)fputs(".PP\n", out);
    while (*text != '\0') {
        const char *end = strchrnul(text, '\n');
        bool indented = *text == ' ';
        if (indented != shown)
            (void)fputs(indented ? ".RS 4\n.EX\n" : ".EE\n.RE\n", out);
        shown = indented;
        if (end == text)
            (void)fputs(".PP\n", out);
        else
            put_line(out, text + (indented ? 2 : 0), (size_t)(end - text) - (indented ? 2 : 0));
        text = *end == '\0' ? end : end + 1;
    }
    if (shown)
        (void)fputs(".EE\n.RE\n", out);
}

static void option(FILE *out, const struct command_option *o)
{
    (void)fputs(".TP\n\\fB", out);
    if (o->key < COMMAND_LONG)
        (void)fprintf(out, "\\-%c\\fR, \\fB", o->key);
    (void)fputs("\\-\\-", out);
    put_text(out, o->name);
    (void)fputs("\\fR", out);
    if (o->value != NULL) {
        (void)fputs(" \\fI", out);
        put_text(out, o->value);
        (void)fputs("\\fR", out);
    }
    (void)fputc('\n', out);
    put_text(out, o->help);
    if (o->usual != NULL) {
        (void)fputs(" (default ", out);
        put_text(out, o->usual);
        (void)fputc(')', out);
    }
    (void)fputc('\n', out);
}

static void verb(FILE *out, const struct command_verb *v)
{
    (void)fputs(".TP\n\\fB", out);
    put_text(out, v->name);
    (void)fputs("\\fR \\fI", out);
    put_text(out, v->operands);
    (void)fputs("\\fR\n", out);
    put_line(out, v->help, strlen(v->help));
}

static void command(FILE *out, const struct command *c)
{
    (void)fprintf(out, ".SS penstock %s\n.nf\n", c->name);
    for (unsigned i = 0; c->usage[i] != NULL; i++) {
        (void)fputs("\\fBpenstock\\fR ", out);
        put_line(out, c->usage[i], strlen(c->usage[i]));
    }
    (void)fputs(".fi\n", out);
    paragraphs(out, c->about);
    for (const struct command_verb *v = c->verbs; v != NULL && v->name != NULL; v++)
        verb(out, v);
    for (const struct command_option *o = c->options; o != NULL && o->name != NULL; o++)
        option(out, o);
    if (c->more != NULL)
        paragraphs(out, c->more);
    (void)fputs(".PP\nExit status: ", out);
    put_line(out, c->exits, strlen(c->exits));
    for (const struct command_example *e = c->examples; e != NULL && e->line != NULL; e++) {
        (void)fputs(".PP\n", out);
        put_text(out, e->says);
        (void)fputs(":\n.RS 4\n.EX\n", out);
        put_line(out, e->line, strlen(e->line));
        (void)fputs(".EE\n.RE\n", out);
    }
}

void roff_commands(FILE *out)
{
    for (const struct command *const *c = commands; *c != NULL; c++)
        command(out, *c);
}

/* --- keys ----------------------------------------------------------------------------------------------- */

struct keys {
    FILE *out;
    const struct schema_section *section;
};

static void key_head(FILE *out, const struct schema_row *row, const char *path)
{
    (void)fputs(".TP\n\\fB", out);
    put_text(out, path);
    (void)fputs("\\fR (", out);
    put_text(out, row->type_text);
    if (row->default_text[0] != '\0') {
        (void)fputs("; default ", out);
        put_text(out, row->default_text);
    }
    if ((row->key->flags & SCHEMA_REQUIRED) != 0)
        (void)fputs("; required", out);
    (void)fputs(")\n", out);
}

static void key_row(void *ctx, const struct schema_row *row)
{
    struct keys *k = ctx;
    const struct schema_section *s = k->section;
    size_t name_len = strlen(s->name);
    if (strncmp(row->path, s->name, name_len) != 0 ||
        (row->path[name_len] != '.' && row->path[name_len] != '['))
        return;
    /* Below the section: "batch.max_events" of "outputs.NAME.batch.max_events". */
    const char *path = row->path + name_len + strcspn(row->path + name_len, ".") + 1;
    if (s->shape == SCHEMA_NAMED)
        path += strcspn(path, ".") + 1;
    key_head(k->out, row, path);
    put_line(k->out, row->help, strlen(row->help));
    if (row->types_text[0] != '\0') {
        (void)fputs("Of type ", k->out);
        put_text(k->out, row->types_text);
        (void)fputs(" only.\n", k->out);
    }
    if ((row->key->flags & SCHEMA_RESTART) != 0)
        (void)fputs("Takes effect at the next start, not by a reload.\n", k->out);
}

void roff_keys(FILE *out)
{
    for (const struct schema_section *s = schema_sections; s->name != NULL; s++) {
        struct keys k = {.out = out, .section = s};
        (void)fprintf(out, ".SS %s%s\n", s->name,
                      s->shape == SCHEMA_NAMED  ? ".NAME"
                      : s->shape == SCHEMA_EACH ? " (a list)"
                                                : "");
        put_line(out, s->help, strlen(s->help));
        schema_walk(key_row, &k);
    }
}
