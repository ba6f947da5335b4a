/* quarantine: damaged bytes are kept for people to look at, within a bound, and never looked at by us again.
 */
#ifndef PENSTOCK_SPOOL_QUARANTINE_H
#define PENSTOCK_SPOOL_QUARANTINE_H

#include "lib/spool/vfs.h"

#define QUARANTINE_FILES_MAX 64
#define QUARANTINE_BYTES_MAX (64 * 1024) /* of one damaged range */

/* Both run in jobs, and do what they can: a failure here must not stop what is being rescued. */

/* Copies a range of a segment to quarantine/<id>-<offset>-<length>.bad. */
void quarantine_range(const struct spool_vfs *vfs, int fd, uint64_t segment, uint64_t offset, uint64_t len);
/* Moves a file there under its own name. */
void quarantine_file(const struct spool_vfs *vfs, const char *name);

#endif
