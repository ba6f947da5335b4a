/* The simulated disk itself: it must forget, tear and lie as promised, or the simulator proves nothing. */
#include "tests/sim/disk.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static struct decisions luck;

static struct disk *fresh(struct spool_vfs *vfs)
{
    struct disk *d = disk_new();
    *vfs = disk_vfs(d);
    decisions_from_seed(&luck, 7);
    return d;
}

static void fill(struct spool_vfs *vfs, int fd, uint8_t with, size_t len, uint64_t offset)
{
    static uint8_t buffer[65536];
    memset(buffer, with, len);
    struct iovec iov = {buffer, len};
    cr_assert_eq(vfs->pwritev(vfs->ctx, fd, &iov, 1, offset), (ssize_t)len);
}

static int made_durable(struct spool_vfs *vfs, const char *name, size_t len)
{
    int fd = vfs->open(vfs->ctx, name, VFS_RDWR | VFS_CREATE);
    fill(vfs, fd, 1, len, 0);
    cr_assert_eq(vfs->fdatasync(vfs->ctx, fd), 0);
    cr_assert_eq(vfs->fsync_dir(vfs->ctx, "."), 0);
    return fd;
}

static int byte_at(struct spool_vfs *vfs, const char *name, uint64_t offset)
{
    uint8_t byte = 0;
    int fd = vfs->open(vfs->ctx, name, VFS_RDONLY);
    if (fd < 0)
        return fd;
    ssize_t got = vfs->pread(vfs->ctx, fd, &byte, 1, offset);
    vfs->close(vfs->ctx, fd);
    return got == 1 ? byte : got < 0 ? (int)got : -1;
}

Test(disk, power_loss_takes_what_was_not_synced)
{
    struct spool_vfs vfs;
    struct disk *d = fresh(&vfs);
    int fd = made_durable(&vfs, "a", 8192);
    fill(&vfs, fd, 2, 1024, 512);
    cr_assert_eq(byte_at(&vfs, "a", 600), 2);
    cr_assert_eq(disk_pending_sectors(d), 2);
    disk_power_loss(d, (struct disk_fate){FATE_LOST, 0}, &luck);
    cr_assert_eq(byte_at(&vfs, "a", 600), 1);
    cr_assert_eq(disk_descriptors(d), 0);
    disk_free(d);
}

Test(disk, kill_keeps_the_cache_and_closes_files)
{
    struct spool_vfs vfs;
    struct disk *d = fresh(&vfs);
    int fd = vfs.open(d, "a", VFS_RDWR | VFS_CREATE);
    fill(&vfs, fd, 2, 1024, 0);
    disk_kill(d);
    cr_assert_eq(byte_at(&vfs, "a", 600), 2);
    cr_assert_eq(disk_pending_sectors(d), 2);
    disk_free(d);
}

Test(disk, each_pending_sector_has_its_own_fate)
{
    for (unsigned one = 0; one < 4; one++) {
        struct spool_vfs vfs;
        struct disk *d = fresh(&vfs);
        int fd = made_durable(&vfs, "a", 4096);
        fill(&vfs, fd, 2, 2048, 0);
        disk_power_loss(d, (struct disk_fate){FATE_ONE_LOST, one}, &luck);
        for (unsigned s = 0; s < 4; s++)
            cr_expect_eq(byte_at(&vfs, "a", s * 512), s == one ? 1 : 2);
        disk_free(d);
    }
}

Test(disk, a_torn_sector_is_neither_old_nor_new)
{
    unsigned torn = 0;
    for (unsigned one = 0; one < 8; one++) {
        struct spool_vfs vfs;
        struct disk *d = fresh(&vfs);
        int fd = made_durable(&vfs, "a", 4096);
        fill(&vfs, fd, 2, 4096, 0);
        disk_power_loss(d, (struct disk_fate){FATE_ONE_GARBAGE, one}, &luck);
        for (unsigned at = 0; at < 512; at++)
            torn += byte_at(&vfs, "a", one * 512 + at) != 2;
        cr_expect_eq(byte_at(&vfs, "a", (one * 512 + 512) % 4096), 2);
        disk_free(d);
    }
    cr_assert_gt(torn, 100);
}

Test(disk, a_name_is_lost_without_fsync_dir_even_when_the_data_is_synced)
{
    struct spool_vfs vfs;
    struct disk *d = fresh(&vfs);
    int fd = vfs.open(d, "a", VFS_RDWR | VFS_CREATE);
    fill(&vfs, fd, 2, 1024, 0);
    cr_assert_eq(vfs.fdatasync(d, fd), 0);
    disk_power_loss(d, (struct disk_fate){FATE_LOST, 0}, &luck);
    cr_assert_eq(byte_at(&vfs, "a", 0), -ENOENT);
    cr_assert_eq(disk_used(d), 0);
    disk_free(d);
}

Test(disk, a_name_without_data_reads_empty_or_zero)
{
    struct spool_vfs vfs;
    struct disk *d = fresh(&vfs);
    int fd = vfs.open(d, "a", VFS_RDWR | VFS_CREATE);
    fill(&vfs, fd, 2, 512, 0);
    cr_assert_eq(vfs.fsync_dir(d, "."), 0);
    /* Pending now: one sector, one size. The size alone is kept. */
    disk_power_loss(d, (struct disk_fate){FATE_ONE_KEPT, 1}, &luck);
    cr_assert_eq(byte_at(&vfs, "a", 0), 0);
    disk_free(d);
}

Test(disk, unlink_and_rename_come_back_when_the_directory_was_not_synced)
{
    struct spool_vfs vfs;
    struct disk *d = fresh(&vfs);
    made_durable(&vfs, "a", 512);
    made_durable(&vfs, "b", 512);
    cr_assert_eq(vfs.unlink(d, "a"), 0);
    cr_assert_eq(vfs.rename(d, "b", "c"), 0);
    cr_assert_eq(byte_at(&vfs, "a", 0), -ENOENT);
    cr_assert_eq(byte_at(&vfs, "c", 0), 1);
    disk_power_loss(d, (struct disk_fate){FATE_LOST, 0}, &luck);
    cr_assert_eq(byte_at(&vfs, "a", 0), 1);
    cr_assert_eq(byte_at(&vfs, "b", 0), 1);
    cr_assert_eq(byte_at(&vfs, "c", 0), -ENOENT);
    disk_free(d);
}

Test(disk, unordered_directories_keep_the_later_operation_alone)
{
    struct spool_vfs vfs;
    struct disk *d = fresh(&vfs);
    disk_set_ordered(d, false);
    made_durable(&vfs, "a", 512);
    made_durable(&vfs, "b", 512);
    cr_assert_eq(vfs.unlink(d, "a"), 0);
    cr_assert_eq(vfs.unlink(d, "b"), 0);
    disk_power_loss(d, (struct disk_fate){FATE_ONE_KEPT, 1}, &luck);
    cr_assert_eq(byte_at(&vfs, "a", 0), 1);
    cr_assert_eq(byte_at(&vfs, "b", 0), -ENOENT);
    disk_free(d);
}

static int verdict_of_next_sync;

static int enter_failing(void *ctx, const struct disk_call *call)
{
    (void)ctx;
    return call->op == DISK_FDATASYNC ? verdict_of_next_sync : DISK_GO;
}

Test(disk, a_failed_sync_lies_about_the_next_one)
{
    struct spool_vfs vfs;
    struct disk *d = fresh(&vfs);
    struct disk_gate gate = {NULL, enter_failing, NULL};
    int fd = made_durable(&vfs, "a", 8192);
    fill(&vfs, fd, 2, 8192, 0);
    disk_set_gate(d, &gate);
    verdict_of_next_sync = DISK_SYNC_UNKNOWN;
    cr_assert_eq(vfs.fdatasync(d, fd), -EIO);
    verdict_of_next_sync = DISK_GO;
    cr_assert_eq(disk_resyncs(d), 0);
    cr_assert_eq(vfs.fdatasync(d, fd), 0);
    cr_assert_eq(disk_resyncs(d), 1);
    cr_assert_eq(byte_at(&vfs, "a", 512), 2, "the cache still shows it");
    disk_power_loss(d, (struct disk_fate){FATE_KEPT, 0}, &luck);
    cr_assert_eq(byte_at(&vfs, "a", 0), 2);
    cr_assert_eq(byte_at(&vfs, "a", 512), 1, "the platter never got it");
    disk_free(d);
}

Test(disk, a_lying_sync_moves_nothing)
{
    struct spool_vfs vfs;
    struct disk *d = fresh(&vfs);
    int fd = made_durable(&vfs, "a", 512);
    disk_set_lying(d, true);
    fill(&vfs, fd, 2, 512, 0);
    cr_assert_eq(vfs.fdatasync(d, fd), 0);
    disk_power_loss(d, (struct disk_fate){FATE_LOST, 0}, &luck);
    cr_assert_eq(byte_at(&vfs, "a", 0), 1);
    disk_free(d);
}

Test(disk, a_full_disk_writes_short_then_refuses)
{
    struct spool_vfs vfs;
    struct disk *d = fresh(&vfs);
    disk_set_capacity(d, 8192);
    int fd = vfs.open(d, "a", VFS_RDWR | VFS_CREATE);
    static uint8_t buffer[16384];
    struct iovec iov = {buffer, sizeof(buffer)};
    cr_assert_eq(vfs.pwritev(d, fd, &iov, 1, 0), 8192);
    cr_assert_eq(vfs.pwritev(d, fd, &iov, 1, 8192), -ENOSPC);
    cr_assert_eq(vfs.fallocate(d, fd, 8192, 1), -ENOSPC);
    cr_assert_eq(vfs.close(d, fd), 0);
    cr_assert_eq(vfs.unlink(d, "a"), 0);
    cr_assert_eq(vfs.fsync_dir(d, "."), 0);
    cr_assert_eq(disk_used(d), 0);
    disk_free(d);
}

Test(disk, truncation_is_pending_and_shows_zeros_afterwards)
{
    struct spool_vfs vfs;
    struct disk *d = fresh(&vfs);
    int fd = made_durable(&vfs, "a", 8192);
    cr_assert_eq(vfs.ftruncate(d, fd, 100), 0);
    cr_assert_eq(vfs.ftruncate(d, fd, 8192), 0);
    cr_assert_eq(byte_at(&vfs, "a", 99), 1);
    cr_assert_eq(byte_at(&vfs, "a", 100), 0);
    disk_power_loss(d, (struct disk_fate){FATE_LOST, 0}, &luck);
    cr_assert_eq(byte_at(&vfs, "a", 100), 1);
    disk_free(d);
}

Test(disk, rot_changes_both_images)
{
    struct spool_vfs vfs;
    struct disk *d = fresh(&vfs);
    made_durable(&vfs, "a", 512);
    cr_assert(disk_rot(d, "a", ROT_ZERO_SECTOR, &luck));
    cr_assert_eq(byte_at(&vfs, "a", 3), 0);
    cr_assert(disk_rot(d, "a", ROT_UNREADABLE, &luck));
    cr_assert_eq(byte_at(&vfs, "a", 3), -EIO);
    cr_assert_not(disk_rot(d, "b", ROT_BIT, &luck));
    disk_free(d);
}

Test(decisions, a_recorded_stream_replays_and_ends_plainly)
{
    struct decisions a = {0}, b = {0};
    decisions_from_seed(&a, 42);
    uint32_t first[100];
    for (unsigned k = 0; k < 100; k++)
        first[k] = decide(&a, 1000);
    decisions_from_stream(&b, a.made, a.count);
    for (unsigned k = 0; k < 100; k++)
        cr_assert_eq(decide(&b, 1000), first[k]);
    cr_assert_eq(decide(&b, 1000), 0);
    decisions_free(&a);
    decisions_free(&b);
}
