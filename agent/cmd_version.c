/* cmd_version: version, build options, and the libraries with their versions. */
#include "agent/cmd.h"
#include "agent/exit.h"

#include <getopt.h>
#include <libdeflate.h>
#include <llhttp.h>
#include <mbedtls/version.h>
#include <msgpack.h>
#include <stdio.h>
#include <uv.h>
#include <yaml.h>
#include <zstd.h>

static int run(int argc, char **argv)
{
    const char *value;
    int key = command_next(&cmd_version, argc, argv, &value);
    if (key != COMMAND_END)
        return command_left(key);
    if (optind < argc)
        return command_mistake(&cmd_version, "unexpected '%s'", argv[optind]);
    char tls[32];
    mbedtls_version_get_string_full(tls);
    (void)printf("penstock %s\n", PENSTOCK_VERSION);
    (void)printf("compiler: %s\n", __VERSION__);
#ifdef __SANITIZE_ADDRESS__
    (void)printf("sanitizers: on\n");
#endif
#ifdef PENSTOCK_HAVE_ISAL
    (void)printf("gzip: ISA-L igzip, libdeflate %s\n", LIBDEFLATE_VERSION_STRING);
#else
    (void)printf("gzip: libdeflate %s\n", LIBDEFLATE_VERSION_STRING);
#endif
    (void)printf("zstd: %s\n", ZSTD_versionString());
    (void)printf("libuv: %s\n", uv_version_string());
    (void)printf("llhttp: %d.%d.%d\n", LLHTTP_VERSION_MAJOR, LLHTTP_VERSION_MINOR, LLHTTP_VERSION_PATCH);
    (void)printf("tls: %s\n", tls);
    (void)printf("msgpack-c: %s\n", msgpack_version());
    (void)printf("libyaml: %s\n", yaml_get_version_string());
#ifdef PENSTOCK_HAVE_SECCOMP
    (void)printf("seccomp: built in\n");
#else
    (void)printf("seccomp: not built in\n");
#endif
    return 0;
}

const struct command cmd_version = {
    .name = "version",
    .run = run,
    .brief = "version, build options, libraries",
    .usage = (const char *const[]){"version", NULL},
    .about = "Prints the version, the build options and the libraries with their versions.",
    .exits = "0, 64 wrong command line.",
    .examples = (const struct command_example[]){{"penstock version", "for a report of a fault"}, {.line = NULL}},
};
