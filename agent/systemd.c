/* systemd: see systemd.h. Sources: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3). */
#include "agent/systemd.h"

#include "lib/base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD 3
#define SOCKETS_MAX 64

static struct {
    int fd;
    bool taken;
    char name[80];
} inherited[SOCKETS_MAX];
static unsigned inherited_count;

void systemd_notify(const char *format, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof to.sun_path)
        return;
    memcpy(to.sun_path, path, strlen(path) + 1);
    if (path[0] == '@')
        to.sun_path[0] = '\0';
    char message[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (n <= 0)
        return;
    size_t len = (size_t)n < sizeof message ? (size_t)n : sizeof message - 1;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    /* Nobody to tell when this fails: the manager's own timeouts notice. */
    (void)sendto(fd, message, len, MSG_NOSIGNAL, (const struct sockaddr *)&to,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
    (void)close(fd);
}

static bool meant_for_us(const char *variable)
{
    uint64_t pid;
    const char *text = getenv(variable);
    return text == NULL || (span_u64(span_str(text), &pid) && pid == (uint64_t)getpid());
}

uint64_t systemd_watchdog_us(void)
{
    uint64_t limit_us;
    const char *text = getenv("WATCHDOG_USEC");
    if (text == NULL || !meant_for_us("WATCHDOG_PID") || !span_u64(span_str(text), &limit_us))
        return 0;
    return limit_us / 2;
}

void systemd_inherit(void)
{
    uint64_t count;
    const char *text = getenv("LISTEN_FDS");
    if (text == NULL || getenv("LISTEN_PID") == NULL || !meant_for_us("LISTEN_PID") ||
        !span_u64(span_str(text), &count))
        return;
    const char *names = getenv("LISTEN_FDNAMES");
    for (unsigned i = 0; i < count && i < SOCKETS_MAX; i++) {
        size_t len = names == NULL ? 0 : strcspn(names, ":");
        inherited[i].fd = FIRST_FD + (int)i;
        (void)snprintf(inherited[i].name, sizeof inherited[i].name, "%.*s", (int)len, names == NULL ? "" : names);
        if (names != NULL)
            names += len + (names[len] == ':');
        (void)fcntl(inherited[i].fd, F_SETFD, FD_CLOEXEC);
        inherited_count++;
    }
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDNAMES");
}

static bool has_type(int fd, int type)
{
    int is = 0;
    socklen_t len = sizeof is;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &is, &len) == 0 && is == type;
}

int systemd_socket(const char *name, int type)
{
    for (unsigned i = 0; i < inherited_count; i++) {
        if (inherited[i].fd < 0 || strcmp(inherited[i].name, name) != 0 || !has_type(inherited[i].fd, type))
            continue;
        if (inherited[i].taken && strcmp(name, "admin") == 0)
            continue;
        int fd = fcntl(inherited[i].fd, F_DUPFD_CLOEXEC, 0);
        inherited[i].taken |= fd >= 0;
        return fd;
    }
    return -1;
}

const char *systemd_unclaimed(void)
{
    for (unsigned i = 0; i < inherited_count; i++) {
        if (inherited[i].fd >= 0 && !inherited[i].taken) {
            (void)close(inherited[i].fd);
            inherited[i].fd = -1;
            return inherited[i].name;
        }
    }
    return NULL;
}
