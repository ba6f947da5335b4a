/* cmd_version: version, build options, and the libraries with their versions. */
#include "agent/cmd.h"
#include "agent/exit.h"

#include <libdeflate.h>
#include <llhttp.h>
#include <mbedtls/version.h>
#include <msgpack.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>
#include <yaml.h>
#include <zstd.h>

int cmd_version(int argc, char **argv)
{
    (void)argv;
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        (void)puts("usage: penstock version\n\nPrints the version, the build options and the libraries.");
        return 0;
    }
    if (argc > 1) {
        (void)fprintf(stderr, "usage: penstock version\n");
        return EXIT_USAGE_ERROR;
    }
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
