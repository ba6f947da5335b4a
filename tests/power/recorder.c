/* recorder: a block device that remembers the order of everything.
 *
 *   power_recorder MOUNTPOINT SIZE_MIB LOG -f -s
 *
 * Serves a directory with two files: `disk`, an image that lives in memory and backs a loop device, and `mark`. Direct
 * I/O is on, so each write of the loop driver arrives at once; every write, every flush and every line written
 * to `mark` goes to LOG in the order of arrival:
 *
 *   record:  u8 kind ('W', 'F', 'M') | u64 offset | u32 length | length bytes       (little-endian)
 *
 * What is written to `mark` and begins with '!' is an order, and no record: "!fail" makes every flush fail with EIO from
 * now on, "!slow 20" makes it take 20 ms more, "!well" ends both.
 *
 * From that log a test builds the images that a power cut could have left: everything before the last flush,
 * and any part of what came after it. (With O_DIRECT off in between, what the guest's file system submits is all
 * that it promises to the device; a device that lies about its flush is not shown by this.)
 * Single-threaded (-s): the order is the order of the calls. */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse3/fuse.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    uint8_t *image;
    size_t size;
    FILE *log;
    int fails, slow_ms; /* each flush */
} recorder;

static int record(char kind, uint64_t offset, const void *data, uint32_t length)
{
    uint8_t head[13] = {(uint8_t)kind};
    for (int i = 0; i < 8; i++)
        head[1 + i] = (uint8_t)(offset >> (8 * i));
    for (int i = 0; i < 4; i++)
        head[9 + i] = (uint8_t)(length >> (8 * i));
    if (fwrite(head, sizeof head, 1, recorder.log) != 1)
        return -EIO;
    if (length > 0 && fwrite(data, length, 1, recorder.log) != 1)
        return -EIO;
    return 0;
}

static int is_disk(const char *path)
{
    return strcmp(path, "/disk") == 0;
}

static int on_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    (void)fi;
    memset(st, 0, sizeof *st);
    st->st_nlink = 1;
    if (strcmp(path, "/") == 0) {
        st->st_mode = S_IFDIR | 0700;
    } else if (is_disk(path)) {
        st->st_mode = S_IFREG | 0600;
        st->st_size = (off_t)recorder.size;
    } else if (strcmp(path, "/mark") == 0) {
        st->st_mode = S_IFREG | 0600;
    } else {
        return -ENOENT;
    }
    return 0;
}

static int on_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *fi,
                      enum fuse_readdir_flags flags)
{
    (void)path;
    (void)offset;
    (void)fi;
    (void)flags;
    fill(buf, "disk", NULL, 0, 0);
    fill(buf, "mark", NULL, 0, 0);
    return 0;
}

static int on_open(const char *path, struct fuse_file_info *fi)
{
    (void)path;
    fi->direct_io = 1;
    return 0;
}

static int on_read(const char *path, char *into, size_t len, off_t offset, struct fuse_file_info *fi)
{
    (void)fi;
    if (!is_disk(path) || (size_t)offset >= recorder.size)
        return 0;
    if (len > recorder.size - (size_t)offset)
        len = recorder.size - (size_t)offset;
    memcpy(into, recorder.image + offset, len);
    return (int)len;
}

static void obey(const char *order, size_t len)
{
    char text[32] = "";
    memcpy(text, order, len < sizeof text ? len : sizeof text - 1);
    recorder.fails = strcmp(text, "!fail") == 0;
    recorder.slow_ms = strncmp(text, "!slow ", 6) == 0 ? (int)strtol(text + 6, NULL, 10) : 0;
}

static int on_write(const char *path, const char *data, size_t len, off_t offset, struct fuse_file_info *fi)
{
    (void)fi;
    int r;
    if (!is_disk(path) && len > 0 && data[0] == '!') {
        obey(data, len);
        return (int)len;
    }
    if (!is_disk(path)) {
        r = record('M', 0, data, (uint32_t)len);
        return r < 0 ? r : (int)len;
    }
    if ((size_t)offset + len > recorder.size)
        return -ENOSPC;
    memcpy(recorder.image + offset, data, len);
    r = record('W', (uint64_t)offset, data, (uint32_t)len);
    return r < 0 ? r : (int)len;
}

static int on_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
    (void)datasync;
    (void)fi;
    if (is_disk(path) && recorder.fails)
        return -EIO;
    if (is_disk(path) && recorder.slow_ms > 0)
        (void)poll(NULL, 0, recorder.slow_ms);
    return is_disk(path) ? record('F', 0, NULL, 0) : 0;
}

/* A discarded range reads as zeros. */
static int on_fallocate(const char *path, int mode, off_t offset, off_t len, struct fuse_file_info *fi)
{
    (void)mode;
    (void)fi;
    if (!is_disk(path) || (size_t)offset + (size_t)len > recorder.size)
        return -EOPNOTSUPP;
    memset(recorder.image + offset, 0, (size_t)len);
    return record('W', (uint64_t)offset, recorder.image + offset, (uint32_t)len);
}

static int on_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    (void)path;
    (void)size;
    (void)fi;
    return 0;
}

static void on_destroy(void *ctx)
{
    (void)ctx;
    fclose(recorder.log);
}

static const struct fuse_operations operations = {
    .getattr = on_getattr,
    .readdir = on_readdir,
    .open = on_open,
    .read = on_read,
    .write = on_write,
    .fsync = on_fsync,
    .fallocate = on_fallocate,
    .truncate = on_truncate,
    .destroy = on_destroy,
};

int main(int argc, char **argv)
{
    if (argc < 4)
        return 64;
    recorder.size = strtoul(argv[2], NULL, 10) << 20;
    recorder.image = calloc(1, recorder.size);
    recorder.log = fopen(argv[3], "wb");
    if (recorder.image == NULL || recorder.log == NULL)
        return 73;
    char *args[] = {argv[0], argv[1], (char *)"-f", (char *)"-s"};
    return fuse_main(4, args, &operations, NULL);
}
