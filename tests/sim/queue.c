/* queue: see queue.h. */
#include "tests/sim/queue.h"

static bool sooner(const struct due *a, const struct due *b)
{
    return a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order);
}

bool queue_put(struct queue *q, const struct due *d)
{
    if (q->count == QUEUE_MAX)
        return false;
    unsigned at = q->count++;
    for (; at > 0 && sooner(d, &q->heap[(at - 1) / 2]); at = (at - 1) / 2)
        q->heap[at] = q->heap[(at - 1) / 2];
    q->heap[at] = *d;
    return true;
}

struct due queue_take(struct queue *q)
{
    struct due first = q->heap[0], last = q->heap[--q->count];
    unsigned at = 0;
    for (unsigned child = 1; child < q->count; child = 2 * at + 1) {
        if (child + 1 < q->count && sooner(&q->heap[child + 1], &q->heap[child]))
            child++;
        if (!sooner(&q->heap[child], &last))
            break;
        q->heap[at] = q->heap[child];
        at = child;
    }
    q->heap[at] = last;
    return first;
}
