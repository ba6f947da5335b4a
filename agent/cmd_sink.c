/* cmd_sink: `penstock sink`, a development upstream.
 *
 * It speaks every api over HTTP or HTTPS, checks what it gets as strictly as the vendor documents it (sink_check.h),
 * counts events once and again (sink_store.h), and does what it is told to (sink_respond.h). This file reads the
 * command line, opens, waits for a signal, and says what came of it. */
#include "agent/cmd.h"
#include "agent/exit.h"
#include "agent/sink_cert.h"
#include "agent/sink_server.h"
#include "lib/tls/tls.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

struct sink {
    const char *listen, *tls_dir, *cert, *key, *client_ca, *out;
    uint64_t count, requests; /* end after so many unique events, requests; 0: never */
    uint64_t seed;
    struct sink_settings settings;
    struct sink_store store;
    struct sink_rules rules;
    struct sink_server server;
    struct tls_context *tls;
    struct sink_cert self_signed;
    uv_loop_t loop;
    uv_signal_t sigterm, sigint;
    bool ending;
};

enum option_key { OPT_API = COMMAND_LONG, OPT_SELF_SIGNED, OPT_CERT, OPT_KEY, OPT_CLIENT_CA, OPT_ACCEPT_KEY, OPT_OUT,
                  OPT_RESPOND, OPT_COUNT, OPT_ONCE, OPT_SEED };

static int take_option(struct sink *s, int key, const char *value)
{
    struct fault why;
    switch (key) {
    case 'l':
        s->listen = value;
        return 0;
    case OPT_API:
        if (sink_api_find(span_str(value)) == NULL)
            return command_mistake(&cmd_sink, "there is no api '%s'", value);
        s->settings.api_name = value;
        return 0;
    case OPT_SELF_SIGNED:
        s->tls_dir = value;
        return 0;
    case OPT_CERT:
        s->cert = value;
        return 0;
    case OPT_KEY:
        s->key = value;
        return 0;
    case OPT_CLIENT_CA:
        s->client_ca = value;
        return 0;
    case OPT_ACCEPT_KEY:
        s->settings.accept_key = span_str(value);
        return 0;
    case OPT_OUT:
        s->out = value;
        return 0;
    case OPT_RESPOND:
        return sink_rules_add(&s->rules, span_str(value), &why) == OK ? 0 : command_mistake(&cmd_sink, "%s", why.text);
    case OPT_COUNT:
        return span_u64(span_str(value), &s->count) && s->count > 0 ? 0 : command_mistake(&cmd_sink, "'%s' is no count", value);
    case OPT_ONCE:
        s->requests = 1;
        return 0;
    case OPT_SEED:
        if (!span_u64(span_str(value), &s->seed))
            return command_mistake(&cmd_sink, "'%s' is no number", value);
        rng_seed(&s->rules.rng, s->seed);
        return 0;
    default:
        return EXIT_USAGE_ERROR;
    }
}

/* 0: go on; -1: help was asked for and given; else an exit code. */
static int parse(struct sink *s, int argc, char **argv)
{
    const char *value;
    int key, code;
    while ((key = command_next(&cmd_sink, argc, argv, &value)) >= 0)
        if ((code = take_option(s, key, value)) != 0)
            return code;
    if (key != COMMAND_END)
        return key == COMMAND_HELP ? -1 : command_left(key);
    if (optind < argc)
        return command_mistake(&cmd_sink, "unexpected '%s'", argv[optind]);
    if (s->listen == NULL)
        return command_mistake(&cmd_sink, "%s is needed", "--listen HOST:PORT");
    if ((s->cert == NULL) != (s->key == NULL))
        return command_mistake(&cmd_sink, "%s go together", "--cert and --key");
    if (s->cert != NULL && s->tls_dir != NULL)
        return command_mistake(&cmd_sink, "%s exclude each other", "--cert and --tls-self-signed");
    if (s->client_ca != NULL && s->cert == NULL && s->tls_dir == NULL)
        return command_mistake(&cmd_sink, "%s needs a certificate of its own", "--client-ca");
    return 0;
}

/* "HOST:PORT" or "[V6]:PORT". */
static bool split_address(const char *text, char *host, size_t host_max, int *ret_port)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (colon == NULL || !span_u64(span_str(colon + 1), &port) || port > 65535)
        return false;
    size_t len = (size_t)(colon - text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len == 0 || len >= host_max)
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    if (strcmp(host, "localhost") == 0)
        memcpy(host, "127.0.0.1", sizeof "127.0.0.1");
    *ret_port = (int)port;
    return true;
}

static int fail(const struct fault *why)
{
    fprintf(stderr, "penstock sink: %s\n", why->text);
    return why->err == ERR_DENIED ? EXIT_NO_PERMISSION : why->err == ERR_CONFIG ? EXIT_BAD_CONFIG : EXIT_CANT_CREATE;
}

static enum err read_file(const char *path, struct bytes *into, struct fault *why)
{
    char chunk[4096];
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return fault_sys(why, errno, "open %s", path);
    enum err err = OK;
    for (size_t n; err == OK && (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
        err = bytes_append(into, span_of(chunk, n));
    fclose(f);
    return err == OK ? OK : fault_set(why, ERR_CONFIG, "%s is too large", path);
}

static enum err make_context(struct sink *s, struct bytes *cert, struct bytes *key, struct bytes *ca, struct fault *why)
{
    struct tls_settings settings = {.server = true};
    enum err err = read_file(s->cert, cert, why);
    if (err == OK)
        err = read_file(s->key, key, why);
    if (err == OK && s->client_ca != NULL) {
        err = read_file(s->client_ca, ca, why);
        if (err == OK)
            err = tls_roots_new(bytes_span(ca), &settings.roots, why);
    }
    settings.cert_pem = bytes_span(cert);
    settings.key_pem = bytes_span(key);
    if (err == OK)
        err = tls_context_new(&settings, &s->tls, why);
    if (settings.roots != NULL)
        tls_roots_free(settings.roots);
    return err;
}

static enum err prepare_tls(struct sink *s, struct fault *why)
{
    struct bytes cert, key, ca;
    if (s->tls_dir != NULL) {
        enum err err = sink_cert_prepare(s->tls_dir, &s->self_signed, why);
        if (err != OK)
            return err;
        s->cert = s->self_signed.cert;
        s->key = s->self_signed.key;
    }
    if (s->cert == NULL)
        return OK;
    bytes_init(&cert, 1 << 20);
    bytes_init(&key, 1 << 20);
    bytes_init(&ca, 4 << 20);
    enum err err = make_context(s, &cert, &key, &ca, why);
    explicit_bzero(key.at, key.at == NULL ? 0 : key.cap);
    bytes_deinit(&cert);
    bytes_deinit(&key);
    bytes_deinit(&ca);
    return err;
}

/* --- running ------------------------------------------------------------------------------------------ */

static void end(struct sink *s)
{
    if (s->ending)
        return;
    s->ending = true;
    sink_server_close(&s->server);
    uv_close((uv_handle_t *)&s->sigterm, NULL);
    uv_close((uv_handle_t *)&s->sigint, NULL);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    end(handle->data);
}

static bool is_enough(const struct sink *s)
{
    uint64_t unique = 0;
    for (unsigned i = 0; i < s->store.api_count; i++)
        unique += s->store.counts[i].unique;
    return (s->count > 0 && unique >= s->count) || (s->requests > 0 && s->store.requests >= s->requests);
}

/* Runs after each answer that was sent. */
static void on_served(struct sink_server *server)
{
    struct sink *s = server->owner;
    if (is_enough(s))
        end(s);
}

static void start_signals(struct sink *s)
{
    s->sigterm.data = s->sigint.data = s;
    /* These fail only for numbers that are no signals. */
    (void)uv_signal_init(&s->loop, &s->sigterm);
    (void)uv_signal_init(&s->loop, &s->sigint);
    (void)uv_signal_start(&s->sigterm, on_signal, SIGTERM);
    (void)uv_signal_start(&s->sigint, on_signal, SIGINT);
}

static int serve(struct sink *s, const char *host, int port)
{
    struct fault why;
    int got = 0, code = 0;
    if (uv_loop_init(&s->loop) != 0) {
        fprintf(stderr, "penstock sink: cannot make an event loop\n");
        return EXIT_INTERNAL;
    }
    if (sink_server_open(&s->server, &s->loop, host, port, &s->settings, s->tls, &got, &why) != OK) {
        code = fail(&why);
        uv_run(&s->loop, UV_RUN_DEFAULT);
    } else {
        s->server.owner = s;
        s->server.served = on_served;
        start_signals(s);
        bool v6 = strchr(host, ':') != NULL;
        printf("listening on %s://%s%s%s:%d\n", s->tls != NULL ? "https" : "http", v6 ? "[" : "", host, v6 ? "]" : "", got);
        if (s->tls_dir != NULL)
            printf("clients verify it with %s\n", s->self_signed.ca);
        fflush(stdout);
        uv_run(&s->loop, UV_RUN_DEFAULT);
        sink_store_print(&s->store, stdout);
        fflush(stdout);
    }
    sink_server_deinit(&s->server);
    uv_loop_close(&s->loop);
    return code;
}

static int run(int argc, char **argv)
{
    struct sink *s = must_alloc(sizeof *s);
    struct fault why;
    char host[64];
    int port = 0;
    sink_rules_init(&s->rules, (uint64_t)time(NULL));
    s->settings.store = &s->store;
    s->settings.rules = &s->rules;
    signal(SIGPIPE, SIG_IGN);
    int code = parse(s, argc, argv);
    if (code == 0 && !split_address(s->listen, host, sizeof host, &port))
        code = command_mistake(&cmd_sink, "'%s' is not HOST:PORT", s->listen);
    if (code == 0 && (sink_store_init(&s->store, s->out, &why) != OK || prepare_tls(s, &why) != OK))
        code = fail(&why);
    if (code == 0)
        code = serve(s, host, port);
    if (s->tls != NULL)
        tls_context_free(s->tls);
    sink_store_deinit(&s->store);
    sink_rules_clear(&s->rules);
    free(s);
    return code < 0 ? 0 : code;
}

const struct command cmd_sink = {
    .name = "sink",
    .run = run,
    .brief = "a development upstream that speaks every api",
    .usage = (const char *const[]){"sink --listen HOST:PORT [OPTION…]", NULL},
    .about = "A development upstream. It recognises each api by its path, checks requests as strictly as the vendor "
             "documents them, answers as the vendor would, and counts unique and repeated events.\n"
             "\n"
             "While it runs: GET /_sink/stats tells the counts as JSON, POST /_sink/respond adds the rule in the body, "
             "DELETE /_sink/respond removes all rules. SIGTERM and SIGINT end it; it then prints its counts.",
    .options = (const struct command_option[]){
        {'l', "listen", "HOST:PORT", NULL, "an IP address or localhost; port 0 takes a free one"},
        {OPT_API, "api", "NAME", NULL, "takes every request for this api's: cloudevents, honeycomb, langfuse, launchdarkly, "
                                       "monk, segops, otlp, http"},
        {OPT_SELF_SIGNED, "tls-self-signed", "DIR", NULL, "HTTPS with a certificate of its own; DIR gets ca.pem (for "
                                                          "clients), cert.pem, key.pem"},
        {OPT_CERT, "cert", "FILE", NULL, "HTTPS with this certificate (chain)"},
        {OPT_KEY, "key", "FILE", NULL, "the key of --cert"},
        {OPT_CLIENT_CA, "client-ca", "FILE", NULL, "clients must show a certificate of this authority"},
        {OPT_ACCEPT_KEY, "accept-key", "KEY", "any", "the one credential that is taken"},
        {OPT_OUT, "out", "FILE", NULL, "appends one line of NDJSON per event: request, index, api, status, taken, partition, "
                                       "id, batch, event (or opaque); written before the answer is sent"},
        {OPT_RESPOND, "respond", "RULE", NULL, "misbehaves; may be given several times"},
        {OPT_COUNT, "count", "N", NULL, "ends when N unique events were taken"},
        {OPT_ONCE, "once", NULL, NULL, "ends after one request"},
        {OPT_SEED, "seed", "N", NULL, "of the rules' chance"},
        {.name = NULL}},
    .more = sink_respond_help,
    .exits = "0 after SIGTERM, SIGINT, --count or --once; 64 wrong command line, 73 the port or a file cannot be had, "
             "77 permission, 78 a bad certificate or key.",
    .examples = (const struct command_example[]){
        {"penstock sink --listen 127.0.0.1:9000 --out events.ndjson", "an upstream to develop against"},
        {"penstock sink --listen 127.0.0.1:9000 --respond times=3,status=503,retry-after=1", "one that is down at first"},
        {"penstock sink --listen localhost:9443 --tls-self-signed /tmp/sink", "over TLS; clients verify it with "
                                                                               "/tmp/sink/ca.pem"},
        {.line = NULL}},
};
