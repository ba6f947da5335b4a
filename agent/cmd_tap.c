/* cmd_tap: `penstock tap`, events as a running agent accepts them, as NDJSON on standard output. */
#include "agent/cmd.h"
#include "agent/cmd_http.h"
#include "agent/exit.h"
#include "lib/config/config.h"

#include <getopt.h>
#include <stdio.h>

struct options {
    struct cmd_http_where where;
    const char *output, *type, *limit;
};

static bool print(void *ctx, struct span bytes)
{
    (void)ctx;
    return fwrite(bytes.at, 1, bytes.len, stdout) == bytes.len && fflush(stdout) == 0;
}

static enum err add_parameter(struct bytes *target, const char *name, const char *value)
{
    if (value == NULL)
        return OK;
    char join = memchr(target->at, '?', target->len) == NULL ? '?' : '&';
    enum err err = bytes_printf(target, "%c%s=", join, name);
    return err == OK ? url_encode_segment(target, span_str(value)) : err;
}

static int show(struct cmd_http *c, const struct options *o)
{
    struct bytes target;
    struct fault why;
    int code = 0;
    bytes_init(&target, URL_BYTES_MAX);
    enum err err = bytes_append(&target, SPAN("/tap"));
    if (err == OK)
        err = add_parameter(&target, "output", o->output);
    if (err == OK)
        err = add_parameter(&target, "type", o->type);
    if (err == OK)
        err = add_parameter(&target, "limit", o->limit);
    if (err == OK)
        err = bytes_append_byte(&target, '\0');
    if (err != OK) {
        (void)fprintf(stderr, "penstock tap: the options are too long\n");
        code = EXIT_USAGE_ERROR;
    } else {
        err = cmd_http_stream(c, (const char *)target.at, print, NULL, &why);
        if (err != OK && c->http.status != 200)
            code = cmd_http_unreachable("tap", c, &why);
        else if (c->http.status != 200)
            code = cmd_http_refused("tap", c);
        if (c->http.status == 400)
            code = EXIT_USAGE_ERROR; /* no such output */
    }
    bytes_deinit(&target);
    return command_printed(&cmd_tap, code);
}

static int run(int argc, char **argv)
{
    struct options o = {0};
    const char *value;
    uint64_t limit;
    int key;
    while ((key = command_next(&cmd_tap, argc, argv, &value)) >= 0) {
        if (cmd_http_option(&o.where, key, value))
            continue;
        switch (key) {
        case 'o':
            o.output = value;
            break;
        case 't':
            o.type = value;
            break;
        default:
            o.limit = value;
            break;
        }
    }
    if (key != COMMAND_END)
        return command_left(key);
    if (optind < argc)
        return command_mistake(&cmd_tap, "unexpected '%s'", argv[optind]);
    if (o.limit != NULL && (!span_u64(span_str(o.limit), &limit) || limit == 0))
        return command_mistake(&cmd_tap, "--limit takes a count, not '%s'", o.limit);
    struct cmd_http c;
    struct config *config;
    int code = cmd_http_find(&cmd_tap, &c, &o.where, &config);
    if (code == 0)
        code = show(&c, &o);
    cmd_http_deinit(&c);
    config_free(config);
    return code;
}

const struct command cmd_tap = {
    .name = "tap",
    .run = run,
    .brief = "show events as they are accepted",
    .usage = (const char *const[]){"tap [--output NAME] [--type GLOB] [--limit N] [--admin URL | -c FILE]", NULL},
    .about = "Shows events as they are accepted, as NDJSON, without slowing anything: whoever reads too slowly misses some "
             "and is told how many by a line {\"tap\":{\"left_out\":N}}.",
    .options = (const struct command_option[]){
        {'o', "output", "NAME", NULL, "only events that go to this output"},
        {'t', "type", "GLOB", NULL, "only events of such types: * any characters, ? one"},
        {'n', "limit", "N", NULL, "ends after N events"},
        CMD_HTTP_OPTIONS,
        {.name = NULL}},
    .more = CMD_HTTP_MORE,
    .exits = "0, also when the agent stops; 64 wrong command line, or no such output; 69 the agent cannot be reached, "
             "74 standard output takes no more, 77 it refuses the token, 78 faulty configuration.",
    .examples = (const struct command_example[]){
        {"penstock tap --limit 10", "the next ten"},
        {"penstock tap --type 'billing.*' | jq .event.data", "what the application says"},
        {.line = NULL}},
};
