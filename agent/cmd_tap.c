/* cmd_tap: `penstock tap`, events as a running agent accepts them, as NDJSON on standard output. */
#include "agent/cmd.h"
#include "agent/cmd_http.h"
#include "agent/exit.h"
#include "lib/config/config.h"

#include <getopt.h>
#include <stdio.h>

static const char help[] =
    "usage: penstock tap [--output NAME] [--type GLOB] [--limit N] [--admin URL | -c FILE]\n"
    "\n"
    "Shows events as they are accepted, as NDJSON, without slowing anything: whoever reads too slowly misses some and\n"
    "is told how many by a line {\"tap\":{\"left_out\":N}}.\n"
    "\n"
    "  --output NAME   only events that go to this output\n"
    "  --type GLOB     only events of such types: * any characters, ? one\n"
    "  --limit N       ends after N events\n"
    "  --admin URL     where the agent's admin listens: http://HOST:PORT or unix:/PATH (default http://127.0.0.1:4390)\n"
    "  -c FILE         take the address, and the token if there is one, from this configuration\n"
    "\n"
    "Exit: 0, also when the agent stops; 69 when it cannot be reached.\n"
    "\n"
    "examples:\n"
    "  penstock tap --limit 10\n"
    "  penstock tap --type 'billing.*' | jq .event.data\n";

struct options {
    const char *admin, *config, *output, *type, *limit;
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

static int run(struct cmd_http *c, const struct options *o)
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
    return code;
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {{"admin", required_argument, NULL, 'a'},
                                            {"config", required_argument, NULL, 'c'},
                                            {"output", required_argument, NULL, 'o'},
                                            {"type", required_argument, NULL, 't'},
                                            {"limit", required_argument, NULL, 'n'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    uint64_t limit;
    int opt;
    while ((opt = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (opt) {
        case 'a':
            o->admin = optarg;
            break;
        case 'c':
            o->config = optarg;
            break;
        case 'o':
            o->output = optarg;
            break;
        case 't':
            o->type = optarg;
            break;
        case 'n':
            o->limit = optarg;
            break;
        case 'h':
            (void)fputs(help, stdout);
            return 0;
        default:
            return EXIT_USAGE_ERROR;
        }
    }
    if (optind == argc && (o->limit == NULL || (span_u64(span_str(o->limit), &limit) && limit > 0)))
        return -1;
    (void)fputs(help, stderr);
    return EXIT_USAGE_ERROR;
}

int cmd_tap(int argc, char **argv)
{
    struct options o = {0};
    struct fault why;
    struct cmd_http c;
    struct config *config = NULL;
    int code = parse(argc, argv, &o);
    if (code >= 0)
        return code;
    if (o.config != NULL && (config = cmd_load_config(o.config)) == NULL)
        return EXIT_BAD_CONFIG;
    if (cmd_http_init(&c, o.admin, config, &why) != OK) {
        (void)fprintf(stderr, "penstock tap: %s\n", why.text);
        code = config != NULL && o.admin == NULL ? EXIT_UNREACHABLE : EXIT_USAGE_ERROR;
    } else {
        code = run(&c, &o);
    }
    cmd_http_deinit(&c);
    config_free(config);
    return code;
}
