/* dial: see dial.h. */
#include "agent/dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int dial_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int sys = errno;
    if (fd >= 0)
        close(fd);
    errno = sys;
    return -1;
}

int dial_url(const struct url *url, char *text, size_t text_max)
{
    char host[256], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *a;
    int fd = -1, one = 1;
    snprintf(host, sizeof host, "%.*s", SPAN_FMT(url->host));
    snprintf(port, sizeof port, "%u", url->port);
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0) {
        snprintf(text, text_max, "%s: %s", host, gai_strerror(rc));
        return -1;
    }
    for (a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            snprintf(text, text_max, "%s port %s: %s", host, port, strerror(errno));
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    if (fd >= 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

bool dial_timeout(int fd, unsigned seconds)
{
    struct timeval timeout = {.tv_sec = seconds};
    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0;
}

bool dial_write(int fd, struct span data)
{
    while (data.len > 0) {
        ssize_t n = send(fd, data.at, data.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data = span_of(data.at + n, data.len - (size_t)n);
    }
    return true;
}

ssize_t dial_read(int fd, void *into, size_t max)
{
    ssize_t n;
    do
        n = recv(fd, into, max, 0);
    while (n < 0 && errno == EINTR);
    return n;
}
