/* listener: see listener.h. */
#include "agent/listener.h"

#include "agent/systemd.h"
#include "lib/base/ip.h"
#include "lib/base/log.h"
#include "lib/base/bytes.h"
#include "lib/config/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static enum err system_fault(struct fault *why, int e, const char *what, const char *where)
{
    enum err err = fault_sys(why, e, "cannot %s %s", what, where);
    if (e == EADDRINUSE)
        err = ERR_IN_USE;
    else if (e == EACCES || e == EPERM)
        err = ERR_DENIED;
    why->err = err;
    return err;
}

static enum err open_socket(int family, int type, const char *where, int *ret, struct fault *why)
{
    int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return system_fault(why, errno, "make a socket for", where);
    *ret = fd;
    return OK;
}

/* --- TCP, UDP ------------------------------------------------------------------------------------------- */

static void describe_inet(struct listener *l)
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof a;
    char host[INET6_ADDRSTRLEN] = "?";
    if (getsockname(l->fd, (struct sockaddr *)&a, &len) < 0)
        return;
    if (a.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a;
        (void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        (void)snprintf(l->text, sizeof l->text, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else if (a.ss_family == AF_INET) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)&a;
        (void)inet_ntop(AF_INET, &in4->sin_addr, host, sizeof host);
        (void)snprintf(l->text, sizeof l->text, "%s:%u", host, ntohs(in4->sin_port));
    }
}

static bool inet_address(const struct config_listen *where, struct sockaddr_storage *ret, socklen_t *ret_len)
{
    memset(ret, 0, sizeof *ret);
    if (where->ipv6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(where->port);
        *ret_len = sizeof *in6;
        return inet_pton(AF_INET6, where->host, &in6->sin6_addr) == 1;
    }
    struct sockaddr_in *in4 = (struct sockaddr_in *)ret;
    in4->sin_family = AF_INET;
    in4->sin_port = htons(where->port);
    *ret_len = sizeof *in4;
    return inet_pton(AF_INET, where->host, &in4->sin_addr) == 1;
}

static enum err bind_inet(struct listener *l, const struct config_listen *where, int type, struct fault *why)
{
    struct sockaddr_storage address;
    socklen_t len;
    int on = 1;
    if (!inet_address(where, &address, &len))
        return fault_set(why, ERR_CONFIG, "%s is not an address", where->text);
    enum err err = open_socket(address.ss_family, type, where->text, &l->fd, why);
    if (err != OK)
        return err;
    /* TCP: so that a restart does not wait for old connections. UDP: never, two would share the datagrams. */
    if (type == SOCK_STREAM)
        (void)setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(l->fd, (const struct sockaddr *)&address, len) < 0) {
        err = system_fault(why, errno, "listen on", where->text);
        (void)close(l->fd);
        l->fd = -1;
        return err;
    }
    describe_inet(l);
    return OK;
}

/* --- Unix ----------------------------------------------------------------------------------------------- */

/* A socket file that nobody serves is removed. */
static enum err clear_stale(const char *path, const struct sockaddr_un *address, int type, struct fault *why)
{
    struct stat st;
    int fd = -1;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? OK : system_fault(why, errno, "look at", path);
    if (!S_ISSOCK(st.st_mode))
        return fault_set(why, ERR_IN_USE, "%s is there already and is not a socket: it is left alone", path);
    enum err err = open_socket(AF_UNIX, type, path, &fd, why);
    if (err != OK)
        return err;
    int r = connect(fd, (const struct sockaddr *)address, sizeof *address);
    int e = r < 0 ? errno : 0;
    (void)close(fd);
    if (e != ECONNREFUSED)
        return fault_set(why, ERR_IN_USE, "%s is served by another process", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return system_fault(why, errno, "remove the stale socket", path);
    return OK;
}

static enum err own_file(struct listener *l, const char *path, const struct config_socket *socket, struct fault *why)
{
    struct stat st;
    uid_t uid = socket->user != NULL ? socket->uid : (uid_t)-1;
    gid_t gid = socket->group != NULL ? socket->gid : (gid_t)-1;
    if ((socket->user != NULL || socket->group != NULL) && chown(path, uid, gid) < 0)
        return system_fault(why, errno, "change the owner of", path);
    if (chmod(path, (mode_t)socket->mode) < 0)
        return system_fault(why, errno, "change the mode of", path);
    if (lstat(path, &st) < 0)
        return system_fault(why, errno, "look at", path);
    l->path = path;
    l->device = st.st_dev;
    l->inode = st.st_ino;
    return OK;
}

static enum err bind_unix(struct listener *l, const struct config_listen *where, const struct config_socket *socket,
                          int type, struct fault *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = where->path;
    if (strlen(path) >= sizeof address.sun_path)
        return fault_set(why, ERR_CONFIG, "%s is longer than a socket path can be", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    enum err err = clear_stale(path, &address, type, why);
    if (err != OK)
        return err;
    err = open_socket(AF_UNIX, type, path, &l->fd, why);
    if (err != OK)
        return err;
    /* Nobody but us gets in between bind() and chmod(). */
    mode_t old = umask(0777);
    int r = bind(l->fd, (const struct sockaddr *)&address, sizeof address);
    int e = errno;
    (void)umask(old);
    if (r < 0) {
        err = system_fault(why, e, "make the socket", path);
    } else {
        err = own_file(l, path, socket, why);
        if (err != OK)
            (void)unlink(path);
    }
    if (err != OK) {
        (void)close(l->fd);
        l->fd = -1;
    }
    (void)snprintf(l->text, sizeof l->text, "unix:%s", path);
    return err;
}

static bool inherit(struct listener *l, const char *name, int type)
{
    l->fd = systemd_socket(name, type);
    if (l->fd < 0)
        return false;
    l->inherited = true;
    describe_inet(l);
    if (l->text[0] == '\0')
        (void)snprintf(l->text, sizeof l->text, "inherited socket %s", name);
    return true;
}

/* --- sharing across a reload ---------------------------------------------------------------------------- */

static struct listener *lent_first;

void listener_lend(struct listener *l, const char *name)
{
    l->lent_name = name;
    l->lent_next = lent_first;
    l->heir = NULL;
    lent_first = l;
}

static bool same_inet(const struct listener *l, const struct config_listen *where)
{
    struct sockaddr_storage wanted, have = {0};
    socklen_t wanted_len, have_len = sizeof have;
    if (!inet_address(where, &wanted, &wanted_len) || getsockname(l->fd, (struct sockaddr *)&have, &have_len) < 0)
        return false;
    return have_len == wanted_len && memcmp(&have, &wanted, wanted_len) == 0;
}

/* Is this lender's socket the one that `name` at `where` should have? What the service manager gave goes by name. */
static bool lends(const struct listener *l, const char *name, const struct config_listen *where, int type)
{
    int is = 0;
    socklen_t len = sizeof is;
    if (l->heir != NULL || getsockopt(l->fd, SOL_SOCKET, SO_TYPE, &is, &len) < 0 || is != type)
        return false;
    bool same_name = strcmp(l->lent_name, name) == 0;
    if (l->inherited)
        return same_name;
    if (where->kind == CONFIG_LISTEN_UNIX)
        return l->path != NULL && strcmp(l->path, where->path) == 0;
    return l->path == NULL && same_inet(l, where);
}

static bool share(struct listener *l, const char *name, const struct config_listen *where,
                  const struct config_socket *socket, int type)
{
    for (struct listener *from = lent_first; from != NULL; from = from->lent_next) {
        if (!lends(from, name, where, type))
            continue;
        int fd = fcntl(from->fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
            return false; /* binding anew will say what is wrong */
        l->fd = fd;
        l->shared = true;
        l->inherited = from->inherited;
        l->device = from->device;
        l->inode = from->inode;
        memcpy(l->text, from->text, sizeof l->text);
        from->heir = l;
        from->heir_where = where;
        from->heir_socket = socket;
        return true;
    }
    return false;
}

/* The file keeps its place; owner and mode follow the new settings. */
static void hand_over_file(struct listener *from)
{
    struct listener *heir = from->heir;
    struct fault why;
    if (from->path == NULL)
        return;
    from->path = NULL;
    if (own_file(heir, from->heir_where->path, from->heir_socket, &why) == OK)
        return;
    log_warn(heir->text, "%s", why.text);
    heir->path = from->heir_where->path;
}

void listener_lend_end(bool switched)
{
    while (lent_first != NULL) {
        struct listener *from = lent_first;
        lent_first = from->lent_next;
        if (switched && from->heir != NULL)
            hand_over_file(from);
        from->lent_next = NULL;
        from->heir = NULL;
    }
}

static bool beyond_loopback(int fd)
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        return false;
    const struct sockaddr_in *in4 = (const struct sockaddr_in *)&a;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a;
    return (a.ss_family == AF_INET && !ip_is_loopback((const uint8_t *)&in4->sin_addr, sizeof in4->sin_addr)) ||
           (a.ss_family == AF_INET6 && !ip_is_loopback((const uint8_t *)&in6->sin6_addr, sizeof in6->sin6_addr));
}

/* Where the service manager listens is not in the configuration, and is held to the same rule here. */
static enum err judge_reach(struct listener *l, const struct config_listen *where, struct fault *why)
{
    if (where->open || !beyond_loopback(l->fd))
        return OK;
    (void)close(l->fd);
    l->fd = -1;
    return fault_set(why, ERR_CONFIG, "the inherited socket is on %s: beyond loopback this needs auth: { token }, or the line "
                     "\"i_know_this_is_unsafe: true\"", l->text);
}

enum err listener_bind(struct listener *l, const char *name, const struct config_listen *where,
                       const struct config_socket *socket, int type, struct fault *why)
{
    *l = (struct listener){.fd = -1};
    if (share(l, name, where, socket, type) || inherit(l, name, type))
        return judge_reach(l, where, why);
    if (where->kind == CONFIG_LISTEN_UNIX)
        return bind_unix(l, where, socket, type, why);
    return bind_inet(l, where, type, why);
}

void listener_remove_file(struct listener *l)
{
    struct stat st;
    if (l->inherited || l->path == NULL)
        return;
    if (lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
        (void)unlink(l->path);
    l->path = NULL;
}
