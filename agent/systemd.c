/* systemd: see systemd.h. Sources: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3). */
#include "agent/systemd.h"

#include "lib/base/bytes.h"
#include "lib/codec/utf8.h"

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

static char status_told[1024];

/* The address of $NOTIFY_SOCKET and its length; 0: there is none. */
static socklen_t manager_address(struct sockaddr_un *to)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof to->sun_path)
        return 0;
    *to = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(to->sun_path, path, strlen(path));
    if (path[0] == '@')
        to->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
}

bool systemd_listens(void)
{
    struct sockaddr_un to;
    return manager_address(&to) > 0;
}

static void send_message(const char *message)
{
    struct sockaddr_un to;
    socklen_t to_len = manager_address(&to);
    if (to_len == 0)
        return;
    const char *status = strstr(message, "STATUS=");
    if (status != NULL)
        (void)snprintf(status_told, sizeof status_told, "%s", status);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    /* Nobody to tell when this fails: the manager's own timeouts notice. */
    (void)sendto(fd, message, strlen(message), MSG_NOSIGNAL, (const struct sockaddr *)&to, to_len);
    (void)close(fd);
}

void systemd_notify(const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (n > 0)
        send_message(message);
}

/* Each line of a message is an assignment, and the manager takes nothing that is not UTF-8: in text from elsewhere, which
 * also may have been cut anywhere, what it would not take is a question mark. */
static void make_presentable(char *text)
{
    uint8_t *at = (uint8_t *)text, *end = at + strlen(text);
    while (at < end) {
        size_t n = utf8_length(at, end);
        if (n == 0 || (n == 1 && *at < 0x20))
            *at = '?';
        at += n == 0 ? 1 : n;
    }
}

void systemd_status(const char *format, ...)
{
    char message[1024] = "STATUS=";
    const size_t before = sizeof "STATUS=" - 1;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message + before, sizeof message - before, format, args);
    va_end(args);
    make_presentable(message);
    if (n > 0 && strcmp(message, status_told) != 0)
        send_message(message);
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
        if (fcntl(inherited[i].fd, F_SETFD, FD_CLOEXEC) < 0)
            break; /* fewer than promised: the number will be a file of ours */
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
