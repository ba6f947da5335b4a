/* partition: see partition.h. Used by fill.c (step 8) and dispatch.c (step 9). */
#include "lib/output/partition.h"

#include "lib/base/ensure.h"
#include "lib/base/hash.h"

#include <stdlib.h>

void partition_table_init(struct partition_table *t)
{
    *t = (struct partition_table){0};
    for (unsigned i = 0; i < PARTITION_BUCKETS; i++)
        list_init(&t->buckets[i]);
    list_init(&t->all);
    list_init(&t->free);
}

static void free_all(struct list *head)
{
    struct list *l;
    while ((l = list_first(head)) != NULL) {
        struct partition *p = CONTAINER_OF(l, struct partition, all);
        list_remove(&p->all);
        free((void *)p->name.at);
        free(p);
    }
}

void partition_table_deinit(struct partition_table *t)
{
    free_all(&t->all);
    free_all(&t->free);
    partition_table_init(t);
}

static struct partition *find_hashed(struct partition_table *t, struct span name, uint64_t hash)
{
    struct list *bucket = &t->buckets[hash % PARTITION_BUCKETS];
    for (struct list *l = bucket->next; l != bucket; l = l->next) {
        struct partition *p = CONTAINER_OF(l, struct partition, bucket);
        if (p->hash == hash && span_equal(p->name, name))
            return p;
    }
    return NULL;
}

struct partition *partition_find(struct partition_table *t, struct span name)
{
    if (t->last != NULL && span_equal(t->last->name, name))
        return t->last;
    struct partition *p = find_hashed(t, name, hash64(name, 0));
    if (p != NULL)
        t->last = p;
    return p;
}

struct partition *partition_add(struct partition_table *t, struct span name)
{
    struct partition *p;
    struct list *l = list_first(&t->free);
    if (l != NULL) {
        p = CONTAINER_OF(l, struct partition, all);
        list_remove(&p->all);
        *p = (struct partition){.name = p->name, .name_cap = p->name_cap};
    } else {
        p = must_alloc(sizeof *p);
    }
    if (p->name_cap < name.len || p->name.at == NULL) {
        p->name_cap = name.len < 48 ? 48 : name.len;
        p->name.at = must_realloc((void *)p->name.at, p->name_cap);
    }
    if (name.len > 0)
        memcpy((void *)p->name.at, name.at, name.len);
    p->name.len = name.len;
    p->hash = hash64(name, 0);
    list_append(&t->all, &p->all);
    list_append(&t->buckets[p->hash % PARTITION_BUCKETS], &p->bucket);
    t->count++;
    t->last = p;
    return p;
}

void partition_let_go(struct partition_table *t, struct partition *p)
{
    if (p->open != NULL || p->batches > 0 || p->held)
        return;
    ensure(t->count > 0);
    if (t->last == p)
        t->last = NULL;
    list_remove(&p->bucket);
    list_remove(&p->all);
    list_append(&t->free, &p->all);
    t->count--;
}
