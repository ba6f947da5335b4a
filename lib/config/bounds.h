/* bounds: what a configuration can cost at most. Every queue and buffer has a maximum; memory and disk are
 * the sums of those maxima, and `check` prints them.
 *
 * What one connection or one spool costs is known to the code that allocates it: the agent hands those
 * figures in as `struct bounds_costs`. */
#ifndef PENSTOCK_CONFIG_BOUNDS_H
#define PENSTOCK_CONFIG_BOUNDS_H

#include "lib/config/config.h"

struct bounds_costs {
    uint64_t process_bytes;    /* the program itself, libraries, loop, tables of recent ids */
    uint64_t thread_bytes;     /* one thread of the pool */
    uint64_t connection_bytes; /* an idle connection of an http input */
    uint64_t tls_bytes;        /* more, when it speaks TLS */
    uint64_t stream_bytes;     /* an idle connection of a unix input */
    uint64_t datagram_bytes;   /* receive slots of a unix_dgram or udp input */
    uint64_t backlog_bytes;    /* of one http input: heads in pieces, and what was read of requests that wait */
    uint64_t request_bytes;    /* requests of all http inputs together, but for large bodies */
    uint64_t large_bytes;      /* large bodies; more if one alone is larger: as it came and decoded; or, when what
                                  came was let go, decoded and what it is made into */
    uint64_t underway_bytes;   /* events of one unix input that wait to be durable */
    uint64_t held_bytes;       /* lines and messages that are not used up, all unix inputs together */
    uint64_t inflated_bytes;   /* what one compressed message may become */
    uint64_t spool_bytes;      /* fill buffer, commit under way and indices of a spool */
    uint64_t output_bytes;     /* tail cache and payloads of an output, where there are one or two */
    uint64_t outputs_bytes;    /* of all of them, where there are more */
    uint64_t batch_bytes;      /* the batch with which an output's payloads pass their bound */
    uint64_t upstream_bytes;   /* one connection to an upstream, with TLS */
    unsigned threads;
    unsigned descriptors;       /* of the process besides inputs and outputs */
    unsigned spool_descriptors; /* of one spool */
};

struct bounds {
    uint64_t memory_bytes; /* of the whole, the kernel's socket buffers apart */
    uint64_t process_bytes, intake_bytes;
    uint64_t kernel_bytes; /* receive buffers asked for */
    uint64_t disk_bytes;   /* spools and dead letters */
    uint64_t min_free;     /* left free besides */
    uint64_t descriptors;
};

uint64_t bounds_input_memory(const struct config_input *in, const struct bounds_costs *costs);
uint64_t bounds_output_memory(const struct config *c, const struct config_output *out, const struct bounds_costs *costs);
uint64_t bounds_output_disk(const struct config_output *out);
struct bounds bounds_of(const struct config *c, const struct bounds_costs *costs);

/* "12.5MiB"; answers `into`. */
const char *bounds_text(uint64_t bytes, char *into, size_t size);

#endif
