/* cmd_run: penstock run -c FILE. Judges the configuration completely, then hands it to the agent. */
#include "agent/agent.h"
#include "agent/cmd.h"
#include "agent/config_load.h"
#include "agent/diag.h"
#include "agent/exit.h"
#include "agent/systemd.h"
#include "lib/config/config.h"

#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static const char help[] =
    "usage: penstock run -c FILE\n"
    "\n"
    "Runs the agent in the foreground; diagnostics go to standard error.\n"
    "\n"
    "  -c, --config FILE   the configuration (see `penstock check`)\n"
    "\n"
    "signals:\n"
    "  SIGTERM, SIGINT   stop: nothing new is taken, what is pending is sent for at most agent.drain_timeout,\n"
    "                    the rest stays in the spools; a second one leaves at once (nothing is lost by it)\n"
    "  SIGHUP            read the configuration again; a faulty one changes nothing and is reported\n"
    "  SIGUSR1           send what is pending now\n"
    "\n"
    "example:\n"
    "  penstock run -c /etc/penstock/penstock.yaml\n";

/* A stuck disk must never starve name lookups: commits, cold reads, compression and lookups each find a thread. */
static void size_pool(const struct config *c)
{
    char threads[16];
    unsigned n = 8 + c->output_count;
    (void)snprintf(threads, sizeof threads, "%u", n > 32 ? 32 : n);
    (void)setenv("UV_THREADPOOL_SIZE", threads, 0);
}

static void prepare_process(void)
{
    (void)umask(077);
    /* Secrets and events live in our memory: no core file of ours may hold them. */
    (void)prctl(PR_SET_DUMPABLE, 0);
    /* The pool's threads allocate little: two arenas are enough, and keep the process small. */
    (void)mallopt(M_ARENA_MAX, 2);
    (void)mallopt(M_TRIM_THRESHOLD, 8 << 20);
    (void)mallopt(M_MMAP_THRESHOLD, 4 << 20);
}

int cmd_run(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *path = NULL;
    int c;
    while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        if (c == 'h') {
            (void)fputs(help, stdout);
            return 0;
        }
        if (c != 'c')
            return EXIT_USAGE_ERROR;
        path = optarg;
    }
    if (path == NULL || optind != argc) {
        (void)fputs(help, stderr);
        return EXIT_USAGE_ERROR;
    }
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
