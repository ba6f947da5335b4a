/* cmd_run: penstock run -c FILE. Judges the configuration completely, then hands it to the agent. */
#include "agent/agent.h"
#include "agent/cmd.h"
#include "agent/disk_lanes.h"
#include "agent/config_load.h"
#include "agent/confine.h"
#include "agent/diag.h"
#include "agent/exit.h"
#include "agent/signals.h"
#include "agent/systemd.h"
#include "lib/config/config.h"

#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* A stuck disk must never starve name lookups: commits, cold reads, compression and lookups each find a thread. */
static void size_pool(const struct config *c)
{
    char threads[16];
    unsigned n = DISK_LANES_TOTAL + c->output_count;
    (void)snprintf(threads, sizeof threads, "%u", n > 32 ? 32 : n);
    (void)setenv("UV_THREADPOOL_SIZE", threads, 0);
}

/* The soft limit spares programs that use select(2) from what they cannot do; we take all that we may. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* the old one stays: a shortage is met when it comes */
}

static void prepare_process(void)
{
    (void)umask(077);
    raise_descriptor_limit();
    confine_memory();
    /* The pool's threads allocate little: two arenas are enough, and keep the process small. */
    (void)mallopt(M_ARENA_MAX, 2);
    /* Large buffers come and go in all sizes: each has pages of its own, which go back when it does, instead of leaving
     * holes that the next one does not fit. Not so the small ones, nor a heap that shrinks a little: faulting pages in
     * again for every 64 KiB cost a tenth of an event. */
    (void)mallopt(M_TRIM_THRESHOLD, 8 << 20);
    (void)mallopt(M_MMAP_THRESHOLD, 512 << 10);
}

static int run(int argc, char **argv)
{
    const char *path = NULL, *value;
    int key;
    while ((key = command_next(&cmd_run, argc, argv, &value)) >= 0)
        path = value;
    if (key != COMMAND_END)
        return command_left(key);
    if (path == NULL)
        return command_mistake(&cmd_run, "-c FILE is needed");
    if (optind < argc)
        return command_mistake(&cmd_run, "unexpected '%s'", argv[optind]);
    signals_hold();
    diag_init(LOG_INFO, false);
    struct config_report report;
    config_report_init(&report);
    struct config *config = config_load(path, &report);
    config_load_print(&report, path, stderr, config == NULL ? NULL : stderr);
    config_report_deinit(&report);
    if (config == NULL)
        return EXIT_BAD_CONFIG;
    static const enum log_level levels[] = {[CONFIG_LOG_ERROR] = LOG_ERROR,
                                            [CONFIG_LOG_WARN] = LOG_WARN,
                                            [CONFIG_LOG_INFO] = LOG_INFO,
                                            [CONFIG_LOG_DEBUG] = LOG_DEBUG};
    diag_init(levels[config->agent.log.level], config->agent.log.format == CONFIG_LOG_JSON);
    systemd_inherit();
    size_pool(config);
    prepare_process();
    return agent_run(config, path);
}

const struct command cmd_run = {
    .name = "run",
    .run = run,
    .brief = "run the agent in the foreground",
    .usage = (const char *const[]){"run -c FILE", NULL},
    .about = "Runs the agent in the foreground; diagnostics go to standard error.",
    .options = (const struct command_option[]){{'c', "config", "FILE", NULL, "the configuration (see `penstock check`)"},
                                               {.name = NULL}},
    .more = "signals:\n"
            "  SIGTERM, SIGINT  stop: nothing new is taken, what is pending is sent for at\n"
            "                   most agent.drain_timeout, the rest stays in the spools; a\n"
            "                   second one leaves at once (nothing is lost by it)\n"
            "  SIGHUP           read the configuration again; a faulty one changes nothing\n"
            "                   and is reported\n"
            "  SIGUSR1          send what is pending now",
    .exits = "0 stopped in order, 64 wrong command line, 70 internal, 73 the data directory, a port or a socket is in use "
             "or cannot be made, 74 storage failed, 77 permission, 78 configuration, or a spool of an unknown version.",
    .examples = (const struct command_example[]){
        {"penstock run -c /etc/penstock/penstock.yaml", "as the service does"},
        {.line = NULL}},
};
