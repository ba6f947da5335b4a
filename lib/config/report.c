/* report: the messages of one judgement, and the judge's own small services. */
#include "lib/config/judge.h"

#include "lib/base/ensure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void config_report_init(struct config_report *r)
{
    *r = (struct config_report){0};
}

void config_report_deinit(struct config_report *r)
{
    free(r->messages);
    *r = (struct config_report){0};
}

void config_message_print(const struct config_message *m, const char *filename, char *into, size_t size)
{
    if (m->line == 0)
        (void)snprintf(into, size, "%s: %s", filename, m->text);
    else
        (void)snprintf(into, size, "%s:%u:%u: %s", filename, m->line, m->column, m->text);
}

/* What stands in the file may hold anything; a message is one line of text. */
static void tame(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7F)
            *text = '?';
}

/* Room for one more; NULL beyond the maximum. */
static struct config_message *add(struct config_report *r, enum config_severity severity, struct yaml_pos pos)
{
    if (severity == CONFIG_FAULT)
        r->faults++;
    if (r->count == CONFIG_MESSAGES_MAX) {
        r->left_out++;
        return NULL;
    }
    r->messages = must_realloc(r->messages, (r->count + 1) * sizeof *r->messages);
    struct config_message *m = &r->messages[r->count++];
    *m = (struct config_message){.severity = severity, .line = pos.line, .column = pos.column};
    return m;
}

void config_report_add(struct config_report *r, enum config_severity severity, const char *format, ...)
{
    struct config_message *m = add(r, severity, (struct yaml_pos){0, 0});
    if (m == NULL)
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(m->text, sizeof m->text, format, args);
    va_end(args);
    tame(m->text);
}

static void say(struct judge *j, enum config_severity severity, struct yaml_pos pos, const char *below,
                const char *format, va_list args)
{
    struct config_message *m = add(j->report, severity, pos);
    if (m == NULL)
        return;
    const char *dot = below[0] != '\0' && j->path_len > 0 ? "." : "";
    const char *colon = j->path_len > 0 || below[0] != '\0' ? ": " : "";
    int n = snprintf(m->text, sizeof m->text, "%s%s%.100s%s", j->path, dot, below, colon);
    ensure(n >= 0 && (size_t)n < sizeof m->text);
    (void)vsnprintf(m->text + n, sizeof m->text - (size_t)n, format, args);
    tame(m->text);
}

void judge_fault(struct judge *j, struct yaml_pos pos, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(j, CONFIG_FAULT, pos, "", format, args);
    va_end(args);
}

void judge_fault_at(struct judge *j, struct yaml_pos pos, const char *below, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(j, CONFIG_FAULT, pos, below, format, args);
    va_end(args);
}

void judge_say(struct judge *j, enum config_severity severity, struct yaml_pos pos, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(j, severity, pos, "", format, args);
    va_end(args);
}

size_t judge_enter(struct judge *j, const char *name)
{
    size_t mark = j->path_len;
    int n = snprintf(j->path + mark, sizeof j->path - mark, "%s%.64s", mark > 0 ? "." : "", name);
    ensure(n >= 0);
    j->path_len = mark + (size_t)n < sizeof j->path ? mark + (size_t)n : sizeof j->path - 1;
    return mark;
}

void judge_leave(struct judge *j, size_t mark)
{
    j->path_len = mark;
    j->path[mark] = '\0';
}

void *judge_alloc(struct judge *j, size_t size)
{
    /* What can be asked for follows from the bounds on text, nodes, names and resolved references. */
    void *p = arena_alloc(j->arena, size);
    ensure(p != NULL);
    memset(p, 0, size);
    return p;
}

const char *judge_copy(struct judge *j, struct span s)
{
    char *copy = judge_alloc(j, s.len + 1);
    if (s.len > 0)
        memcpy(copy, s.at, s.len);
    return copy;
}

/* Walks a dotted name down; answers the last node that is there, and whether all of it was. */
static const struct yaml_node *descend(const struct yaml_node *n, const char *dotted, bool *ret_whole)
{
    *ret_whole = false;
    while (n != NULL) {
        char name[64];
        size_t len = strcspn(dotted, ".");
        ensure(len > 0 && len < sizeof name);
        memcpy(name, dotted, len);
        name[len] = '\0';
        const struct yaml_node *child = yaml_child(n, name);
        if (child == NULL || yaml_is_null(child))
            return n;
        n = child;
        if (dotted[len] == '\0') {
            *ret_whole = true;
            return n;
        }
        dotted += len + 1;
    }
    return NULL;
}

const struct yaml_node *judge_find(const struct yaml_node *n, const char *dotted)
{
    bool whole;
    const struct yaml_node *found = descend(n, dotted, &whole);
    return whole ? found : NULL;
}

struct yaml_pos judge_pos(const struct yaml_node *n, const char *dotted)
{
    bool whole;
    const struct yaml_node *found = descend(n, dotted, &whole);
    if (found == NULL)
        return (struct yaml_pos){1, 1};
    return whole ? found->pos : found->key_pos;
}
