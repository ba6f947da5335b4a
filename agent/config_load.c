/* config_load: see config_load.h. */
#include "agent/config_load.h"

#include "agent/tls_files.h"
#include "lib/tls/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <mbedtls/version.h>
#include <pthread.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *variable(void *ctx, const char *name)
{
    (void)ctx;
    return getenv(name);
}

/* Appends what the file holds, up to the buffer's maximum. */
static enum err read_all(int fd, const char *path, struct bytes *into, struct fault *why)
{
    uint8_t piece[8192];
    for (;;) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n == 0)
            return OK;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fault_sys(why, errno, "%s", path);
        enum err err = bytes_append(into, span_of(piece, (size_t)n));
        explicit_bzero(piece, (size_t)n);
        if (err != OK)
            return fault_set(why, err, "%s: larger than %zu bytes", path, into->max);
    }
}

static enum err read_file(void *ctx, const char *path, struct bytes *into, struct fault *why)
{
    (void)ctx;
    /* Not blocking, so that a pipe in a secret's place is an error and not a halt. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return fault_sys(why, errno, "%s", path);
    struct stat st;
    enum err err = fstat(fd, &st) != 0    ? fault_sys(why, errno, "%s", path)
                   : !S_ISREG(st.st_mode) ? fault_set(why, ERR_IO, "%s: not a regular file", path)
                                          : read_all(fd, path, into, why);
    (void)close(fd); /* only read from: nothing can be lost */
    return err;
}

static enum err file_readable(void *ctx, const char *path, struct fault *why)
{
    (void)ctx;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return fault_set(why, ERR_IO, "%s", strerror(errno));
    struct stat st;
    enum err err = OK;
    if (fstat(fd, &st) != 0)
        err = fault_set(why, ERR_IO, "%s", strerror(errno));
    else if (!S_ISREG(st.st_mode))
        err = fault_set(why, ERR_IO, "not a regular file");
    (void)close(fd); /* nothing was written */
    return err;
}

/* Makes the endpoint, and lets it go again. */
static enum err tls_usable(void *ctx, bool server, const char *ca_file, const char *cert_file, const char *key_file,
                           struct fault *why)
{
    (void)ctx;
    struct tls_context *made = NULL;
    uint64_t looks = 0;
    struct config_tls_server listener = {.cert_file = cert_file, .key_file = key_file, .client_ca_file = ca_file};
    struct config_tls_client client = {.ca_file = ca_file, .cert_file = cert_file, .key_file = key_file, .verify = ca_file != NULL};
    enum err err = server ? tls_server_load(&listener, &made, &looks, why) : tls_client_load(&client, &made, why);
    tls_context_free(made);
    return err;
}

static bool user_id(void *ctx, const char *name, uint32_t *ret)
{
    (void)ctx;
    char buffer[4096];
    struct passwd entry, *found = NULL;
    if (getpwnam_r(name, &entry, buffer, sizeof buffer, &found) != 0 || found == NULL)
        return false;
    *ret = found->pw_uid;
    return true;
}

static bool group_id(void *ctx, const char *name, uint32_t *ret)
{
    (void)ctx;
    char buffer[65536]; /* a group may have many members */
    struct group entry, *found = NULL;
    if (getgrnam_r(name, &entry, buffer, sizeof buffer, &found) != 0 || found == NULL)
        return false;
    *ret = found->gr_gid;
    return true;
}

static char host_name[256] = "localhost";
static pthread_once_t host_name_once = PTHREAD_ONCE_INIT;

static void find_host_name(void)
{
    char name[sizeof host_name] = "";
    if (gethostname(name, sizeof name - 1) == 0 && name[0] != '\0')
        memcpy(host_name, name, sizeof host_name);
}

const struct config_env *config_load_env(void)
{
    static const struct config_env env = {
        .variable = variable,
        .read_file = read_file,
        .file_readable = file_readable,
        .tls_usable = tls_usable,
        .user_id = user_id,
        .group_id = group_id,
        .host_name = host_name,
        .tls_1_3 = MBEDTLS_VERSION_NUMBER >= 0x03060000,
    };
    (void)pthread_once(&host_name_once, find_host_name);
    return &env;
}

/* A configuration may come through a pipe, unlike a secret. */
static enum err read_configuration(const char *path, struct bytes *text, struct fault *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return fault_sys(why, errno, "cannot be opened");
    struct stat st;
    enum err err = OK;
    if (fstat(fd, &st) != 0 || S_ISDIR(st.st_mode))
        err = fault_set(why, ERR_IO, "expected a file, this is a directory");
    else
        err = read_all(fd, "cannot be read", text, why);
    (void)close(fd); /* only read from */
    return err;
}

struct config *config_load(const char *path, struct config_report *report)
{
    struct bytes text;
    struct fault why;
    bytes_init(&text, CONFIG_TEXT_MAX);
    struct config *c = NULL;
    if (read_configuration(path, &text, &why) != OK)
        config_report_add(report, CONFIG_FAULT, "%s", why.text);
    else
        c = config_parse(bytes_span(&text), path, config_load_env(), report);
    if (text.at != NULL)
        explicit_bzero(text.at, text.cap);
    bytes_deinit(&text);
    return c;
}

void config_load_print(const struct config_report *report, const char *path, FILE *faults, FILE *others)
{
    static const char *const words[] = {
        [CONFIG_FAULT] = "", [CONFIG_WARNING] = "warning: ", [CONFIG_NOTE] = "note: "};
    for (unsigned i = 0; i < report->count; i++) {
        const struct config_message *m = &report->messages[i];
        FILE *to = m->severity == CONFIG_FAULT ? faults : others;
        if (to == NULL)
            continue;
        if (m->line > 0)
            (void)fprintf(to, "%s:%u:%u: %s%s\n", path, m->line, m->column, words[m->severity], m->text);
        else
            (void)fprintf(to, "%s: %s%s\n", path, words[m->severity], m->text);
    }
    if (report->left_out > 0 && faults != NULL)
        (void)fprintf(faults, "%s: %u more are not shown\n", path, report->left_out);
}
