/* cmd_check: `penstock check -c FILE` judges a configuration without touching any spool. Faults go to standard error;
 * what follows from a good configuration, its bounds on memory and disk, and remarks on it go to standard output.
 * `run` judges with the same code. */
#include "agent/cmd.h"

#include "agent/config_load.h"
#include "agent/exit.h"
#include "agent/input_hold.h"
#include "agent/input_http.h"
#include "agent/input_stream.h"
#include "agent/output_host.h"
#include "lib/config/bounds.h"

#include <getopt.h>
#include <stdio.h>

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

/* What the parts of the agent allocate at most; each figure is the bound that its own code keeps. */
static const struct bounds_costs costs = {
    .process_bytes = 8 * MIB + 512 * KIB,
    .thread_bytes = 64 * KIB,
    .connection_bytes = 2 * KIB,
    .tls_bytes = 40 * KIB,
    .stream_bytes = 2 * KIB,
    .datagram_bytes = 20 * 64 * KIB,
    .backlog_bytes = HTTP_HELD_BYTES,
    .request_bytes = HTTP_SMALL_BYTES + HTTP_WORKING_BYTES + HTTP_ARENA_BYTES + HTTP_KEEP_BYTES + 2 * MIB /* the piece at hand */,
    .large_bytes = HTTP_LARGE_BYTES,
    .underway_bytes = STREAM_UNDERWAY_BYTES,
    .held_bytes = HOLD_BYTES + HOLD_PARKED,
    .inflated_bytes = STREAM_INFLATED_BYTES,
    .spool_bytes = 5 * MIB / 2,
    .output_bytes = 8 * MIB,
    .outputs_bytes = OUTPUTS_CACHE_BYTES + OUTPUTS_PAYLOAD_BYTES,
    .batch_bytes = MIB,
    .upstream_bytes = 64 * KIB,
    .threads = 8,
    .descriptors = 32,
    .spool_descriptors = 8,
};

static void print_memory(const struct config *c, const struct bounds *b)
{
    char text[32];
    (void)printf("memory: at most %s\n", bounds_text(b->memory_bytes, text, sizeof text));
    (void)printf("  %-32s %10s\n", "process and threads", bounds_text(b->process_bytes, text, sizeof text));
    (void)printf("  %-32s %10s\n", "requests and messages taken in",
                 bounds_text(b->intake_bytes, text, sizeof text));
    for (unsigned i = 0; i < c->input_count; i++)
        (void)printf("  input  %-25s %10s\n", c->inputs[i].name,
                     bounds_text(bounds_input_memory(&c->inputs[i], &costs), text, sizeof text));
    for (unsigned i = 0; i < c->output_count; i++)
        (void)printf("  output %-25s %10s\n", c->outputs[i].name,
                     bounds_text(bounds_output_memory(c, &c->outputs[i], &costs), text, sizeof text));
    if (b->kernel_bytes > 0)
        (void)printf("  besides, receive buffers asked of the kernel: %s\n",
                     bounds_text(b->kernel_bytes, text, sizeof text));
}

static void print_disk(const struct config *c, const struct bounds *b)
{
    char text[32], dead[32];
    (void)printf("disk: at most %s under %s\n", bounds_text(b->disk_bytes, text, sizeof text),
                 c->agent.data_dir);
    for (unsigned i = 0; i < c->output_count; i++) {
        const struct config_output *o = &c->outputs[i];
        (void)printf("  output %-25s %10s spool, %s dead letters\n", o->name,
                     bounds_text(o->spool.max_bytes, text, sizeof text),
                     bounds_text(o->dead_letter.max_bytes, dead, sizeof dead));
    }
    (void)printf("  events are refused while the file system has less than %s free\n",
                 bounds_text(b->min_free, text, sizeof text));
}

static int check(const char *path)
{
    struct config_report report;
    config_report_init(&report);
    struct config *c = config_load(path, &report);
    config_load_print(&report, path, stderr, stdout);
    int code = EXIT_BAD_CONFIG;
    if (c != NULL) {
        struct bounds b = bounds_of(c, &costs);
        (void)printf("%s: good: %u input%s, %u output%s, %u route%s\n", path, c->input_count,
                     c->input_count == 1 ? "" : "s", c->output_count, c->output_count == 1 ? "" : "s",
                     c->route_count, c->route_count == 1 ? "" : "s");
        print_memory(c, &b);
        print_disk(c, &b);
        (void)printf("files: at most %llu open\n", (unsigned long long)b.descriptors);
        code = 0;
    }
    config_free(c);
    config_report_deinit(&report);
    return code;
}

static int run(int argc, char **argv)
{
    const char *path = NULL, *value;
    int key;
    while ((key = command_next(&cmd_check, argc, argv, &value)) >= 0)
        path = value;
    if (key != COMMAND_END)
        return command_left(key);
    if (path == NULL)
        return command_mistake(&cmd_check, "-c FILE is needed");
    if (optind < argc)
        return command_mistake(&cmd_check, "unexpected '%s'", argv[optind]);
    return check(path);
}

const struct command cmd_check = {
    .name = "check",
    .run = run,
    .brief = "validate a configuration",
    .usage = (const char *const[]){"check -c FILE", NULL},
    .about = "Judges a configuration as `run` would, without touching any spool. Each fault is printed to standard error "
             "as FILE:LINE:COLUMN: message. For a good configuration the bounds on memory and disk that follow from it "
             "are printed to standard output, with remarks where something is allowed but odd.",
    .options = (const struct command_option[]){{'c', "config", "FILE", NULL, "the configuration"}, {.name = NULL}},
    .exits = "0 good, 64 wrong command line, 78 faults, or a file that cannot be read.",
    .examples = (const struct command_example[]){
        {"penstock check -c /etc/penstock/penstock.yaml", "before a reload or a restart"},
        {"penstock check -c new.yaml && sudo install -m 0640 new.yaml /etc/penstock/penstock.yaml", "as a gate"},
        {.line = NULL}},
};
