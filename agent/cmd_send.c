/* cmd_send: `penstock send`, NDJSON from files or standard input to a running agent.
 *
 * Batches go one after the other; each is repeated, with the same ids, until the agent has said yes or no to each of its
 * events, so that nothing is lost and nothing stored twice. The exit code tells whether every event was accepted. */
#include "agent/cmd.h"

#include "agent/exit.h"
#include "agent/send_channel.h"
#include "lib/config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { COMPLAINTS_MAX = 20, WAIT_FIRST_MS = 100, WAIT_MAX_MS = 5000, BAR_WIDTH = 30, PROGRESS_MS = 100 };

struct sender {
    struct send_source source;
    struct send_channel channel;
    struct send_batch batch;
    uint64_t accepted, refused, complaints;
    uint64_t retry_for_ms;
    uint64_t begun_ms, shown_ms;
    bool terminal, quiet;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- what a person sees -------------------------------------------------------------------------------- */

static void clear_progress(struct sender *s)
{
    if (s->terminal && s->shown_ms > 0)
        fprintf(stderr, "\r\033[K");
    s->shown_ms = 0;
}

static void show_progress(struct sender *s)
{
    uint64_t now = now_ms();
    if (!s->terminal || now - s->shown_ms < PROGRESS_MS)
        return;
    s->shown_ms = now;
    uint64_t elapsed = now - s->begun_ms + 1, rate = s->accepted * 1000 / elapsed;
    fprintf(stderr, "\r\033[K");
    if (s->source.bytes_total > 0) {
        char bar[BAR_WIDTH + 1];
        uint64_t unread = s->source.in.len - s->source.in_at, done = s->source.bytes_read - unread;
        uint64_t filled = done * BAR_WIDTH / s->source.bytes_total;
        memset(bar, ' ', BAR_WIDTH);
        memset(bar, '=', filled < BAR_WIDTH ? filled : BAR_WIDTH);
        bar[BAR_WIDTH] = '\0';
        fprintf(stderr, "[%s] %3" PRIu64 " %%  ", bar, done * 100 / s->source.bytes_total);
    }
    fprintf(stderr, "%" PRIu64 " events, %" PRIu64 "/s", s->accepted, rate);
    if (s->refused + s->source.refused > 0)
        fprintf(stderr, ", %" PRIu64 " refused", s->refused + s->source.refused);
    fflush(stderr);
}

static void complain(struct sender *s, const char *file, uint64_t number, struct span text)
{
    clear_progress(s);
    if (s->complaints++ == COMPLAINTS_MAX)
        fprintf(stderr, "penstock send: further refusals are only counted\n");
    if (s->complaints > COMPLAINTS_MAX)
        return;
    if (file != NULL)
        fprintf(stderr, "%s:%" PRIu64 ": %.*s\n", file, number, SPAN_FMT(text));
    else
        fprintf(stderr, "penstock send: refused: %.*s\n", SPAN_FMT(text));
}

static void on_line_refused(void *ctx, const char *file, uint64_t number, const char *text)
{
    complain(ctx, file, number, span_str(text));
}

static void on_event_refused(void *ctx, const struct send_line *line, struct span text)
{
    complain(ctx, line != NULL ? line->file : NULL, line != NULL ? line->number : 0, text);
}

/* --- sending ------------------------------------------------------------------------------------------- */

static int unreachable(struct sender *s, const struct send_result *result, enum send_outcome outcome)
{
    clear_progress(s);
    fprintf(stderr, "penstock send: %s: %s\n", outcome == SEND_LATER ? "the agent has no room" : "cannot reach the agent",
            result->text);
    return outcome == SEND_LATER ? EXIT_REFUSED : EXIT_UNREACHABLE;
}

/* Sends part of the batch until each of its events has its answer. 0, or an exit code that ends the run. */
static int deliver(struct sender *s, unsigned first, unsigned count)
{
    struct send_result result;
    uint64_t wait_ms = WAIT_FIRST_MS, begun_ms = now_ms();
    for (;;) {
        enum send_outcome outcome = send_channel_post(&s->channel, &s->batch, first, count, &result);
        if (outcome == SEND_DONE) {
            s->accepted += result.accepted;
            s->refused += result.refused;
            return 0;
        }
        if (outcome == SEND_TOO_LARGE && count > 1) {
            int code = deliver(s, first, count / 2);
            return code != 0 ? code : deliver(s, first + count / 2, count - count / 2);
        }
        if (outcome == SEND_TOO_LARGE) {
            s->refused++;
            complain(s, s->batch.lines[first].file, s->batch.lines[first].number, span_str(result.text));
            return 0;
        }
        if (outcome == SEND_REFUSED) {
            clear_progress(s);
            fprintf(stderr, "penstock send: the agent refuses: %s\n", result.text);
            return EXIT_REFUSED;
        }
        if (!s->channel.connected_once || now_ms() - begun_ms >= s->retry_for_ms)
            return unreachable(s, &result, outcome);
        poll(NULL, 0, (int)(result.wait_ms > 0 ? result.wait_ms : wait_ms));
        wait_ms = wait_ms * 2 > WAIT_MAX_MS ? WAIT_MAX_MS : wait_ms * 2;
        show_progress(s);
    }
}

static int send_all(struct sender *s)
{
    struct fault why;
    for (;;) {
        enum err err = send_source_fill(&s->source, &s->batch, &why);
        int code = s->batch.count > 0 ? deliver(s, 0, s->batch.count) : 0;
        show_progress(s);
        if (code != 0)
            return code;
        if (err != OK) {
            clear_progress(s);
            fprintf(stderr, "penstock send: %s\n", why.text);
            return EXIT_REFUSED;
        }
        if (s->batch.count == 0 && s->source.file_at == s->source.file_count)
            return s->refused + s->source.refused > 0 ? EXIT_REFUSED : 0;
    }
}

/* --- the command line ----------------------------------------------------------------------------------- */

enum option_key { OPT_URL = COMMAND_LONG, OPT_SOCKET, OPT_TOKEN_FILE, OPT_RETRY_FOR, OPT_CA, OPT_CERT, OPT_KEY };

struct arguments {
    const char *url, *socket, *type, *token_file;
    struct config_tls_client tls;
    uint64_t retry_for_s;
    bool quiet;
};

static int take_option(struct arguments *a, int key, const char *value)
{
    switch (key) {
    case OPT_URL:
        a->url = value;
        return 0;
    case OPT_SOCKET:
        a->socket = value;
        return 0;
    case 't':
        a->type = value;
        return 0;
    case OPT_TOKEN_FILE:
        a->token_file = value;
        return 0;
    case OPT_CA:
        a->tls.ca_file = value;
        return 0;
    case OPT_CERT:
        a->tls.cert_file = value;
        return 0;
    case OPT_KEY:
        a->tls.key_file = value;
        return 0;
    case OPT_RETRY_FOR:
        if (!span_u64(span_str(value), &a->retry_for_s) || a->retry_for_s > 1000000)
            return command_mistake(&cmd_send, "--retry-for takes seconds, not '%s'", value);
        return 0;
    default:
        a->quiet = true;
        return 0;
    }
}

/* 0: go on; -1: help was printed; else an exit code. */
static int parse(struct arguments *a, int argc, char **argv)
{
    const char *value;
    int key, code;
    while ((key = command_next(&cmd_send, argc, argv, &value)) >= 0)
        if ((code = take_option(a, key, value)) != 0)
            return code;
    if (key != COMMAND_END)
        return key == COMMAND_HELP ? -1 : command_left(key);
    if (a->url != NULL && a->socket != NULL)
        return command_mistake(&cmd_send, "--url and --socket exclude each other");
    if ((a->tls.cert_file != NULL) != (a->tls.key_file != NULL))
        return command_mistake(&cmd_send, "--cert and --key go together");
    if (a->url != NULL && strncmp(a->url, "unix:", 5) == 0) {
        a->socket = a->url + 5;
        a->url = NULL;
    }
    if (a->type != NULL && a->type[0] == '\0')
        return command_mistake(&cmd_send, "--type is empty");
    return 0;
}

/* The token without the line feed at its end; NULL when there is none. The caller frees it. */
static char *read_token(const char *file, struct fault *why)
{
    char buffer[4097];
    if (file == NULL) {
        const char *from_env = getenv("PENSTOCK_TOKEN");
        return from_env == NULL || from_env[0] == '\0' ? NULL : must_strdup(from_env);
    }
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buffer, sizeof buffer - 1);
    if (n < 0)
        (void)fault_sys(why, errno, "read %s", file);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return NULL;
    while (n > 0 && (buffer[n - 1] == '\n' || buffer[n - 1] == '\r'))
        n--;
    return must_strndup(span_of(buffer, (size_t)n));
}

static int carry_out(struct sender *s, const struct arguments *a, const char *token, char **files, int file_count)
{
    struct fault why;
    s->retry_for_ms = a->retry_for_s * 1000;
    s->quiet = a->quiet;
    s->terminal = !a->quiet && isatty(STDERR_FILENO);
    s->begun_ms = now_ms();
    send_source_init(&s->source, files, file_count, a->type);
    send_batch_init(&s->batch);
    s->source.on_refused = on_line_refused;
    s->source.ctx = s;
    int code = 0;
    if (send_channel_init(&s->channel, a->url, a->socket, token, &a->tls, &why) != OK) {
        code = command_mistake(&cmd_send, "%s", why.text);
    } else {
        s->channel.on_refused = on_event_refused;
        s->channel.ctx = s;
        code = send_all(s);
        clear_progress(s);
        if (!s->quiet)
            printf("%" PRIu64 " accepted, %" PRIu64 " refused\n", s->accepted, s->refused + s->source.refused);
    }
    send_channel_deinit(&s->channel);
    send_batch_deinit(&s->batch);
    send_source_deinit(&s->source);
    return code;
}

static int run(int argc, char **argv)
{
    struct arguments a = {.retry_for_s = 60, .tls = {.verify = true, .min_version = 12}};
    struct fault why = {0};
    int code = parse(&a, argc, argv);
    if (code != 0)
        return code < 0 ? 0 : code;
    if (a.url == NULL && a.socket == NULL)
        a.url = "http://127.0.0.1:4380";
    char *token = read_token(a.token_file, &why);
    if (why.err != OK) {
        fprintf(stderr, "penstock send: %s\n", why.text);
        return EXIT_USAGE_ERROR;
    }
    signal(SIGPIPE, SIG_IGN);
    struct sender *s = must_alloc(sizeof *s);
    code = carry_out(s, &a, token, argv + optind, argc - optind);
    free(s);
    free(token);
    return code;
}

const struct command cmd_send = {
    .name = "send",
    .run = run,
    .brief = "send NDJSON events to a running agent",
    .usage = (const char *const[]){"send [--url URL | --socket PATH] [OPTION…] [FILE…]", NULL},
    .about = "Sends NDJSON, one event per line, to a running agent; from standard input without FILE, or where it is \"-\". "
             "Events without an id get one, and a batch whose answer was lost is repeated with the same ids, so that "
             "nothing is lost and nothing stored twice.",
    .options = (const struct command_option[]){
        {OPT_URL, "url", "URL", "http://127.0.0.1:4380", "the HTTP input's base URL: http:// or https://; unix:PATH is --socket PATH"},
        {OPT_SOCKET, "socket", "PATH", NULL, "the Unix stream input's socket"},
        {'t', "type", "T", NULL, "the type of events that have none. A line that is no object, or whose object has other "
                                 "members than a neutral event's own, becomes the data of an event of this type"},
        {OPT_TOKEN_FILE, "token-file", "FILE", NULL, "what the input asks for as auth.token; or set PENSTOCK_TOKEN"},
        {OPT_CA, "ca", "FILE", "the system's", "https: the authorities that may have signed the input's certificate"},
        {OPT_CERT, "cert", "FILE", NULL, "https: the certificate that the input asks for"},
        {OPT_KEY, "key", "FILE", NULL, "https: the key of --cert"},
        {OPT_RETRY_FOR, "retry-for", "SECONDS", "60", "gives up when the agent takes nothing for so long"},
        {'q', "quiet", NULL, NULL, "no progress, no summary"},
        {.name = NULL}},
    .operands = "FILE",
    .exits = "0 every event was accepted, 64 wrong command line, 65 some were refused, 69 the agent cannot be reached.",
    .examples = (const struct command_example[]){
        {"penstock send events.ndjson", "a file to the agent on this machine"},
        {"echo '{\"type\":\"deploy.done\",\"data\":{\"version\":7}}' | penstock send", "one event of a script"},
        {"penstock send --url https://relay.example.com:4380 --token-file token events.ndjson", "to a relay, over TLS"},
        {"journalctl -f -o json | penstock send --type journal --socket /run/penstock/penstock.sock", "a stream of objects"},
        {.line = NULL}},
};
