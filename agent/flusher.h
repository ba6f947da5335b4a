/* flusher: things whose output is written once per turn of the loop, however often it grew meanwhile. */
#ifndef PENSTOCK_AGENT_FLUSHER_H
#define PENSTOCK_AGENT_FLUSHER_H

#include "lib/base/list.h"

/* Embedded in a connection. */
struct flusher {
    struct list node;
    void (*flush)(struct flusher *f);
};

struct flush_queue {
    struct list due;
};

static inline void flush_queue_init(struct flush_queue *q)
{
    list_init(&q->due);
}

static inline void flusher_init(struct flusher *f, void (*flush)(struct flusher *f))
{
    list_init(&f->node);
    f->flush = flush;
}

static inline void flush_soon(struct flush_queue *q, struct flusher *f)
{
    if (list_empty(&f->node))
        list_append(&q->due, &f->node);
}

static inline void flush_all(struct flush_queue *q)
{
    struct list *node;
    while ((node = list_first(&q->due)) != NULL) {
        struct flusher *f = CONTAINER_OF(node, struct flusher, node);
        list_remove(node);
        f->flush(f);
    }
}

#endif
