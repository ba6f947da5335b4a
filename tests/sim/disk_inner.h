/* disk_inner: what disk.c (calls) and disk_fate.c (losses and damage) share. Nobody else includes it. */
#ifndef PENSTOCK_SIM_DISK_INNER_H
#define PENSTOCK_SIM_DISK_INNER_H

#include "tests/sim/disk.h"

#define SECTORS (DISK_PAGE / DISK_SECTOR)
#define INODES_MAX 512
#define NAMES_MAX 256
#define FDS_MAX 128
#define DIROPS_MAX 512

struct page {
    uint8_t cache[DISK_PAGE], platter[DISK_PAGE];
    uint8_t pending; /* sectors written and not synced */
    uint8_t strayed; /* sectors that are clean in the cache and other on the platter */
    uint8_t unreadable;
    uint8_t written; /* sectors that ever got data: where rot is worth while */
    bool listed;
    struct page *spare;
};

struct inode {
    bool used;
    struct page **pages;
    uint64_t *allocated; /* one bit per page */
    size_t page_cap;
    uint64_t size, platter_size;
    uint64_t allocated_pages;
    uint32_t *touched; /* pages with pending or strayed sectors */
    size_t touched_count, touched_cap;
    unsigned cache_links, platter_links, opens;
    bool sync_failed;
};

struct name {
    char text[DISK_NAME_MAX];
    int inode; /* -1: a directory */
};
struct names {
    struct name at[NAMES_MAX];
    unsigned count;
};

struct dirop {
    enum { DIROP_LINK, DIROP_RENAME, DIROP_UNLINK } kind;
    char from[DISK_NAME_MAX], to[DISK_NAME_MAX];
    int inode;
};

struct disk {
    struct inode inodes[INODES_MAX];
    unsigned inode_count; /* slots ever used */
    struct names cache, platter;
    struct dirop dirops[DIROPS_MAX];
    unsigned dirop_count;
    struct {
        bool open, writable;
        int inode;
        char name[DISK_NAME_MAX];
    } fds[FDS_MAX];
    uint64_t capacity, pages_used, type;
    bool ordered, lying;
    unsigned resyncs;
    struct page *spares;
    struct disk_gate gate;
};

struct name *names_find(struct names *n, const char *text);
void names_put(struct disk *d, struct names *n, const char *text, int inode);
void names_drop(struct disk *d, struct names *n, const char *text);
void dirop_apply(struct disk *d, struct names *n, const struct dirop *op);
bool name_in(const char *name, const char *dir);

struct page *inode_page(struct disk *d, struct inode *i, uint64_t index); /* made when missing */
void inode_touch(struct inode *i, struct page *p, uint64_t index);
void inode_drop_if_unused(struct disk *d, struct inode *i);
void inode_reach(struct inode *i, uint64_t pages);
void inode_count_pages(struct disk *d, struct inode *i);

#endif
