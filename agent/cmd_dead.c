/* cmd_dead: `penstock dead`, dead letters: list, show, replay, purge. Through a running agent's admin, or under the data
 * directory's lock when none runs (dead_source.h). */
#include "agent/cmd.h"
#include "agent/cmd_http.h"
#include "agent/dead_source.h"
#include "agent/exit.h"
#include "agent/json_pick.h"
#include "lib/base/ensure.h"
#include "lib/config/config.h"
#include "lib/spool/spool.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINES_BYTES_MAX (256u << 20)
#define PAGE_LETTERS 500
#define IDS_A_REQUEST 2000
#define BUSY_TRIES 20
#define BUSY_MS 250

/* --- a running agent ------------------------------------------------------------------------------------ */

/* False: it was said what is wrong, and s->code is set. */
static bool ask(struct dead_source *s, const char *method, const char *target, struct span body)
{
    struct fault why;
    for (unsigned tries = 0;; tries++) {
        if (cmd_http_ask(s->http, method, target, body, &why) != OK) {
            s->code = cmd_http_unreachable("dead", s->http, &why);
            return false;
        }
        if (s->http->http.status != 503 || tries >= BUSY_TRIES)
            break;
        (void)poll(NULL, 0, BUSY_MS); /* it answers another request, or reloads */
    }
    if (s->http->http.status == 200)
        return true;
    s->code = cmd_http_refused("dead", s->http);
    if (s->http->http.status == 404)
        s->code = EXIT_USAGE_ERROR;
    return false;
}

static bool list_online(struct dead_source *s, uint64_t after, struct bytes *lines)
{
    char target[256];
    (void)snprintf(target, sizeof target, "/outputs/%s/dead?after=%llu", s->output, (unsigned long long)after);
    if (!ask(s, "GET", target, (struct span){0}))
        return false;
    enum err err = bytes_append(lines, bytes_span(&s->http->http.body));
    ensure(err == OK); /* a page of the admin is far smaller */
    return true;
}

static bool show_online(struct dead_source *s, uint64_t id, struct bytes *lines)
{
    char target[256];
    struct fault why;
    (void)snprintf(target, sizeof target, "/outputs/%s/dead/%llu", s->output, (unsigned long long)id);
    if (cmd_http_ask(s->http, "GET", target, (struct span){0}, &why) == OK && s->http->http.status == 404) {
        char code[64];
        (void)pick_string(bytes_span(&s->http->http.body), "error.message", code, sizeof code);
        if (strncmp(code, "there is no dead letter", 23) == 0)
            return true;
    }
    if (!ask(s, "GET", target, (struct span){0}))
        return false;
    enum err err = bytes_append(lines, bytes_span(&s->http->http.body));
    ensure(err == OK); /* a page of the admin is far smaller */
    return true;
}

static bool act_online(struct dead_source *s, bool replay, const uint64_t *ids, unsigned count, uint64_t *ret_done)
{
    char target[256];
    struct bytes body;
    (void)snprintf(target, sizeof target, "/outputs/%s/dead/%s", s->output, replay ? "replay" : "purge");
    bytes_init(&body, 64u << 10);
    enum err err = bytes_append(&body, ids == NULL ? SPAN("{\"all\":true}") : SPAN("{\"ids\":["));
    for (unsigned i = 0; err == OK && ids != NULL && i < count; i++)
        err = bytes_printf(&body, "%s%llu", i == 0 ? "" : ",", (unsigned long long)ids[i]);
    if (err == OK && ids != NULL)
        err = bytes_append(&body, SPAN("]}"));
    ensure(err == OK); /* IDS_A_REQUEST numbers fit */
    bool good = ask(s, "POST", target, bytes_span(&body));
    if (good)
        *ret_done = pick_u64(bytes_span(&s->http->http.body), replay ? "replayed" : "purged");
    bytes_deinit(&body);
    return good;
}

/* --- either --------------------------------------------------------------------------------------------- */

static bool ask_offline(struct dead_source *s, int kind, const uint64_t *ids, unsigned count, uint64_t after,
                        struct bytes *lines, uint64_t *ret_done)
{
    struct fault why;
    unsigned limit = kind == DEAD_LIST && ids == NULL ? PAGE_LETTERS : 0;
    if (dead_offline_ask(s->offline, kind, ids, count, after, limit, lines, ret_done, &why) == OK)
        return true;
    (void)fprintf(stderr, "penstock dead: %s\n", why.text);
    s->code = why.err == ERR_FULL ? EXIT_REFUSED : EXIT_STORAGE_FAILED;
    return false;
}

bool dead_source_list(struct dead_source *s, uint64_t after, struct bytes *lines)
{
    uint64_t count;
    return s->http != NULL ? list_online(s, after, lines) : ask_offline(s, DEAD_LIST, NULL, 0, after, lines, &count);
}

bool dead_source_show(struct dead_source *s, uint64_t id, struct bytes *lines)
{
    uint64_t count;
    return s->http != NULL ? show_online(s, id, lines) : ask_offline(s, DEAD_LIST, &id, 1, 0, lines, &count);
}

bool dead_source_act(struct dead_source *s, bool replay, const uint64_t *ids, unsigned count, uint64_t *ret_done)
{
    if (s->http != NULL)
        return act_online(s, replay, ids, count, ret_done);
    return ask_offline(s, replay ? DEAD_REPLAY : DEAD_PURGE, ids, count, 0, NULL, ret_done);
}

/* --- what is shown -------------------------------------------------------------------------------------- */

static void print_row(struct span letter)
{
    char time[40], reason[40], partition[64], answer[100];
    (void)pick_string(letter, "time", time, sizeof time);
    (void)pick_string(letter, "reason", reason, sizeof reason);
    (void)pick_string(letter, "partition", partition, sizeof partition);
    (void)pick_string(letter, "answer", answer, sizeof answer);
    pick_clean(partition);
    pick_clean(answer);
    printf("%8llu  %-24s  %-12s  %6llu  %8llu  %-16s  %s\n", (unsigned long long)pick_u64(letter, "id"), time, reason,
           (unsigned long long)pick_u64(letter, "status"), (unsigned long long)pick_u64(letter, "attempts"),
           partition[0] == '\0' ? "-" : partition, answer);
}

static void print_whole(struct span letter)
{
    static const char *const names[] = {"time", "reason", "partition", "answer"};
    char text[2048];
    printf("id         %llu\nstatus     %llu\nattempts   %llu\n", (unsigned long long)pick_u64(letter, "id"),
           (unsigned long long)pick_u64(letter, "status"), (unsigned long long)pick_u64(letter, "attempts"));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)pick_string(letter, names[i], text, sizeof text);
        pick_clean(text);
        printf("%-9s  %s\n", names[i], text);
    }
    struct span event = pick(letter, "event");
    printf("event      %.*s\n", SPAN_FMT(event));
}

/* --- commands ------------------------------------------------------------------------------------------- */

struct options {
    struct cmd_http_where where;
    const char *verb, *output;
    bool json, all;
    uint64_t *ids;
    unsigned id_count;
};

/* Prints the lines; the id of the last one. */
static uint64_t print_lines(const struct bytes *lines, bool json)
{
    uint64_t last = 0;
    for (size_t at = 0; at < lines->len;) {
        const uint8_t *end = memchr(lines->at + at, '\n', lines->len - at);
        size_t len = end == NULL ? lines->len - at : (size_t)(end - lines->at) - at;
        struct span letter = span_of(lines->at + at, len);
        last = pick_u64(letter, "id");
        if (json)
            printf("%.*s\n", SPAN_FMT(letter));
        else
            print_row(letter);
        at += len + 1;
    }
    return last;
}

static int list(struct dead_source *s, const struct options *o)
{
    struct bytes lines;
    uint64_t after = 0;
    bool good, first = true;
    bytes_init(&lines, LINES_BYTES_MAX);
    while ((good = dead_source_list(s, after, &lines)) && lines.len > 0) {
        if (first && !o->json)
            printf("%8s  %-24s  %-12s  %6s  %8s  %-16s  %s\n", "ID", "TIME", "REASON", "STATUS", "ATTEMPTS", "PARTITION",
                   "ANSWER");
        first = false;
        after = print_lines(&lines, o->json);
        bytes_clear(&lines);
    }
    if (good && first && !o->json)
        printf("no dead letters\n");
    bytes_deinit(&lines);
    return good ? 0 : s->code;
}

static int show(struct dead_source *s, const struct options *o)
{
    struct bytes lines;
    int code = 0;
    bytes_init(&lines, LINES_BYTES_MAX);
    if (!dead_source_show(s, o->ids[0], &lines)) {
        code = s->code;
    } else if (lines.len == 0) {
        (void)fprintf(stderr, "penstock dead: output %s has no dead letter %llu\n", o->output,
                      (unsigned long long)o->ids[0]);
        code = EXIT_REFUSED;
    } else if (o->json) {
        (void)print_lines(&lines, true);
    } else {
        print_whole(bytes_span(&lines));
    }
    bytes_deinit(&lines);
    return code;
}

static int act(struct dead_source *s, const struct options *o)
{
    bool replay = strcmp(o->verb, "replay") == 0;
    uint64_t done = 0, some;
    int code = 0;
    for (unsigned at = 0; code == 0 && (o->all || at < o->id_count); at += IDS_A_REQUEST) {
        unsigned count = o->id_count - at < IDS_A_REQUEST ? o->id_count - at : IDS_A_REQUEST;
        some = 0;
        if (!dead_source_act(s, replay, o->all ? NULL : o->ids + at, count, &some))
            code = s->code;
        done += some;
        if (o->all)
            break;
    }
    printf("%llu %s\n", (unsigned long long)done, replay ? "replayed" : "purged");
    if (code == 0 && !o->all && done < o->id_count) {
        (void)fprintf(stderr, "penstock dead: %llu ids are no dead letters of output %s\n",
                      (unsigned long long)(o->id_count - done), o->output);
        code = EXIT_REFUSED;
    }
    return code;
}

static int carry_out(struct dead_source *s, const struct options *o)
{
    int code;
    if (strcmp(o->verb, "list") == 0)
        code = list(s, o);
    else if (strcmp(o->verb, "show") == 0)
        code = show(s, o);
    else
        code = act(s, o);
    return command_printed(&cmd_dead, code);
}

static int run_offline(struct dead_source *s, const struct options *o, const struct config *config)
{
    struct fault why;
    enum err err = dead_offline_open(config, o->output, &s->offline, &why);
    if (err == OK) {
        int code = carry_out(s, o);
        dead_offline_close(s->offline);
        return code;
    }
    (void)fprintf(stderr, "penstock dead: %s\n", why.text);
    switch (err) {
    case ERR_IN_USE:
        return EXIT_CANT_CREATE;
    case ERR_CONFIG:
        return EXIT_USAGE_ERROR;
    case ERR_NOT_FOUND:
        return EXIT_UNREACHABLE;
    case ERR_UNSUPPORTED:
        return EXIT_BAD_CONFIG;
    default:
        return why.sys == EACCES ? EXIT_NO_PERMISSION : EXIT_STORAGE_FAILED;
    }
}

/* A running agent first; with its configuration at hand, the spool itself when nobody answers. */
static int find_and_run(const struct options *o, const struct config *config)
{
    struct dead_source s = {.output = o->output};
    struct cmd_http c;
    struct fault why;
    int code;
    enum err err = cmd_http_init(&c, o->where.admin, config, &why);
    if (err == OK)
        err = cmd_http_ask(&c, "GET", "/healthz", (struct span){0}, &why);
    if (err == OK) {
        s.http = &c;
        code = carry_out(&s, o);
    } else if (config != NULL && o->where.admin == NULL) {
        code = run_offline(&s, o, config);
    } else if (err == ERR_CONFIG) {
        (void)fprintf(stderr, "penstock dead: %s\n", why.text);
        code = EXIT_USAGE_ERROR;
    } else {
        code = cmd_http_unreachable("dead", &c, &why);
    }
    cmd_http_deinit(&c);
    return code;
}

/* 0, or an exit code. */
static int take_operands(struct options *o, int argc, char **argv)
{
    if (optind < argc)
        o->verb = argv[optind];
    if (argc - optind < 2)
        return 0;
    o->output = argv[optind + 1];
    o->ids = must_alloc((size_t)(argc - optind) * sizeof *o->ids);
    for (int i = optind + 2; i < argc; i++)
        if (!span_u64(span_str(argv[i]), &o->ids[o->id_count++]))
            return command_mistake(&cmd_dead, "an ID is a number of `dead list`, not '%s'", argv[i]);
    return 0;
}

/* NULL, or what is wrong with the command line. */
static const char *misunderstood(const struct options *o)
{
    if (o->verb == NULL)
        return "one of list, show, replay and purge is needed";
    bool list_it = strcmp(o->verb, "list") == 0, show_it = strcmp(o->verb, "show") == 0;
    if (!list_it && !show_it && strcmp(o->verb, "replay") != 0 && strcmp(o->verb, "purge") != 0)
        return "there is list, show, replay and purge, nothing else";
    if (o->output == NULL)
        return "the name of an OUTPUT is needed";
    if (strlen(o->output) > CONFIG_NAME_MAX || strpbrk(o->output, "/?# ") != NULL)
        return "OUTPUT is no name that an output could have";
    if (list_it)
        return o->id_count > 0 || o->all ? "list takes an OUTPUT only" : NULL;
    if (show_it)
        return o->id_count != 1 || o->all ? "show takes one ID" : NULL;
    if (o->json)
        return "--json belongs to list and show";
    return o->all == (o->id_count > 0) ? "either some IDs or --all is needed" : NULL;
}

static int carry_on(const struct options *o)
{
    struct config *config = NULL;
    const char *wrong = misunderstood(o);
    if (wrong != NULL)
        return command_mistake(&cmd_dead, "%s", wrong);
    if (o->where.config != NULL && (config = cmd_load_config(o->where.config)) == NULL)
        return EXIT_BAD_CONFIG;
    int code = find_and_run(o, config);
    config_free(config);
    return code;
}

static int run(int argc, char **argv)
{
    struct options o = {0};
    const char *value;
    int key;
    while ((key = command_next(&cmd_dead, argc, argv, &value)) >= 0) {
        o.json |= key == 'j';
        o.all |= key == 'a';
        (void)cmd_http_option(&o.where, key, value);
    }
    if (key != COMMAND_END)
        return command_left(key);
    int code = take_operands(&o, argc, argv);
    if (code == 0)
        code = carry_on(&o);
    free(o.ids);
    return code;
}

const struct command cmd_dead = {
    .name = "dead",
    .run = run,
    .brief = "list, show, replay or purge dead letters",
    .usage = (const char *const[]){"dead list OUTPUT [--json] [-c FILE | --admin URL]",
                                   "dead show OUTPUT ID [--json] [-c FILE | --admin URL]",
                                   "dead replay|purge OUTPUT ID…|--all [-c FILE | --admin URL]", NULL},
    .about = "Events that an output's upstream refused for good, each with the reason and the upstream's answer.\n"
             "\n"
             "A running agent is asked first. When none runs, and with -c FILE, the spool is opened under its lock.",
    .verbs = (const struct command_verb[]){
        {"list", "OUTPUT", "all of them, oldest first; with --json as NDJSON: id time reason status answer partition "
                           "attempts event"},
        {"show", "OUTPUT ID", "one of them, whole"},
        {"replay", "OUTPUT ID…", "puts them back into the output's spool, to be sent in a new batch"},
        {"purge", "OUTPUT ID…", "gives them up; they count as dropped"},
        {.name = NULL}},
    .options = (const struct command_option[]){
        {'a', "all", NULL, NULL, "replay or purge all letters of the output"},
        {'j', "json", NULL, NULL, "list, show: one JSON object per letter and line"},
        CMD_HTTP_OPTIONS,
        {.name = NULL}},
    .more = CMD_HTTP_MORE,
    .exits = "0, 64 wrong command line, or no such output; 65 some ids are not there; 69 no agent is reached, "
             "73 the data directory is in use, 74 storage failed, 77 permission, 78 faulty configuration.",
    .examples = (const struct command_example[]){
        {"penstock dead list telemetry -c /etc/penstock/penstock.yaml", "what there is"},
        {"penstock dead list telemetry --json | jq -r .answer | sort | uniq -c", "why they died"},
        {"penstock dead replay telemetry --all", "once the cause is mended"},
        {.line = NULL}},
};
