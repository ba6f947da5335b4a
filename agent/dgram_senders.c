/* dgram_senders: see dgram_senders.h. */
#include "agent/dgram_senders.h"

#include "lib/base/ip.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static struct dgram_sender *find(struct dgram_senders *s, const uint64_t key[3])
{
    if (s->used > 0 && memcmp(s->all[s->last].key, key, sizeof s->all[0].key) == 0)
        return &s->all[s->last];
    unsigned smallest = 0;
    for (unsigned i = 0; i < s->used; i++) {
        if (memcmp(s->all[i].key, key, sizeof s->all[0].key) == 0) {
            s->last = i;
            return &s->all[i];
        }
        if (s->all[i].bytes < s->all[smallest].bytes)
            smallest = i;
    }
    s->last = s->used < DGRAM_SENDERS ? s->used++ : smallest;
    struct dgram_sender *taken = &s->all[s->last];
    memcpy(taken->key, key, sizeof taken->key);
    taken->over = taken->bytes;
    return taken;
}

void dgram_senders_host(struct dgram_senders *s, const struct sockaddr *address, uint64_t bytes)
{
    uint64_t key[3] = {0};
    uint16_t port;
    bool loopback;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        memcpy(key, &v4->sin_addr, sizeof v4->sin_addr);
        loopback = ip_is_loopback((const uint8_t *)&v4->sin_addr, sizeof v4->sin_addr);
        port = v4->sin_port;
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        memcpy(key, &v6->sin6_addr, sizeof v6->sin6_addr);
        loopback = ip_is_loopback((const uint8_t *)&v6->sin6_addr, sizeof v6->sin6_addr);
        port = v6->sin6_port;
    } else {
        return;
    }
    key[2] = (uint64_t)address->sa_family << 16 | (loopback ? ntohs(port) : 0);
    find(s, key)->bytes += bytes;
}

void dgram_senders_process(struct dgram_senders *s, const struct ucred *who, uint64_t bytes)
{
    const uint64_t key[3] = {(uint64_t)who->pid, who->uid, (uint64_t)AF_UNIX << 16};
    find(s, key)->bytes += bytes;
}

static void name(const struct dgram_sender *d, char *into, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";
    int family = (int)(d->key[2] >> 16);
    unsigned port = d->key[2] & 0xffff;
    if (family == AF_UNIX) {
        (void)snprintf(into, size, "pid %ld of uid %ld", (long)d->key[0], (long)d->key[1]);
        return;
    }
    (void)inet_ntop(family, d->key, host, sizeof host);
    if (port == 0)
        (void)snprintf(into, size, "%s", host);
    else
        (void)snprintf(into, size, family == AF_INET6 ? "[%s]:%u" : "%s:%u", host, port);
}

unsigned dgram_senders_loudest(const struct dgram_senders *s, struct input_sender *into, unsigned room)
{
    unsigned count = 0;
    for (unsigned i = 0; i < s->used; i++) {
        struct input_sender *at = input_sender_place(into, &count, room, s->all[i].bytes - s->all[i].over);
        if (at != NULL)
            name(&s->all[i], at->who, sizeof at->who);
    }
    return count;
}
