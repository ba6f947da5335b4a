/* place: see place.h. The numbers are those of statfs(2) and of <linux/magic.h>; those of OpenZFS, bcachefs,
 * GPFS and Lustre are their projects' own. A FUSE file system may be anything, a network one among others. */
#include "lib/spool/place.h"

#include <stddef.h>

#define NETWORK "what was answered for is as safe as its server and its mount options make it"
#define MEMORY "what was answered for is gone after a power failure or a reboot"
#define OVERLAY "what was answered for may go with the container, and syncs may be switched off"
#define FUSE "whether what was answered for survives a power failure is for the program behind it"
#define COPY_ON_WRITE "room that was set aside may not be there when it is needed"

static const struct known {
    uint64_t type;
    struct place place;
} known[] = {
    {0x6969, {"NFS", NETWORK, false}},
    {0xFF534D42, {"CIFS", NETWORK, false}},
    {0xFE534D42, {"SMB", NETWORK, false}},
    {0x517B, {"SMB", NETWORK, false}},
    {0x01021997, {"9p", NETWORK, false}},
    {0x00C36400, {"Ceph", NETWORK, false}},
    {0x5346414F, {"AFS", NETWORK, false}},
    {0x6B414653, {"AFS", NETWORK, false}},
    {0x73757245, {"Coda", NETWORK, false}},
    {0x0BD00BD0, {"Lustre", NETWORK, false}},
    {0x01161970, {"GFS2", NETWORK, false}},
    {0x7461636F, {"OCFS2", NETWORK, false}},
    {0x47504653, {"GPFS", NETWORK, false}},
    {0x786F4256, {"a folder shared by VirtualBox", NETWORK, false}},
    {0x01021994, {"tmpfs", MEMORY, false}},
    {0x858458F6, {"ramfs", MEMORY, false}},
    {0x794C7630, {"an overlay", OVERLAY, false}},
    {0x65735546, {"FUSE", FUSE, false}},
    {0x9123683E, {"btrfs", COPY_ON_WRITE, true}},
    {0x2FC12FC1, {"ZFS", COPY_ON_WRITE, true}},
    {0xCA451A4E, {"bcachefs", COPY_ON_WRITE, true}},
};

const struct place *place_of(uint64_t type)
{
    /* f_type is a signed 32 bit number on some machines. */
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].type == (type & 0xFFFFFFFF))
            return &known[i].place;
    return NULL;
}
