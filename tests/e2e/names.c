/* names: for LD_PRELOAD. Names that have the addresses which NAMES says ("shop.test=127.0.0.2,127.0.0.1;…"); each lookup of
 * one leaves a line in NAMES_LOG, and takes NAMES_SECONDS. All other names are the system's. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *addresses_of(const char *node)
{
    const char *at = getenv("NAMES");
    size_t len = strlen(node);
    for (; at != NULL; at = strchr(at, ';') ? strchr(at, ';') + 1 : NULL)
        if (strncmp(at, node, len) == 0 && at[len] == '=')
            return at + len + 1;
    return NULL;
}

static void note(const char *node)
{
    int fd = open(getenv("NAMES_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && write(fd, node, strlen(node)) > 0 && write(fd, "\n", 1) > 0)
        close(fd);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    const char *at = node == NULL ? NULL : addresses_of(node);
    struct addrinfo **end = ret;
    if (at == NULL)
        return real(node, service, hints, ret);
    note(node);
    if (getenv("NAMES_SECONDS") != NULL)
        (void)poll(NULL, 0, 1000 * (int)strtoul(getenv("NAMES_SECONDS"), NULL, 10)); /* a slow name server */
    *ret = NULL;
    while (*at != '\0' && *at != ';') {
        char one[64] = "";
        size_t len = strcspn(at, ",;");
        memcpy(one, at, len < sizeof one ? len : sizeof one - 1);
        int error = real(one, service, hints, end); /* chained: the system's freeaddrinfo() frees each by itself */
        if (error != 0)
            return error;
        while (*end != NULL)
            end = &(*end)->ai_next;
        at += len + (at[len] == ',');
    }
    return 0;
}
