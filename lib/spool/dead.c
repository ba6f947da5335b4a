/* dead: dead letters. */
#include "lib/spool/internal.h"

enum err spool_dead(struct spool *s, struct spool_dead_request *request)
{
    (void)s;
    (void)request;
    return ERR_UNSUPPORTED;
}

bool spool_recent_next(struct spool *s, struct span *ret_id, uint64_t *ret_wall_ns)
{
    (void)s;
    (void)ret_id;
    (void)ret_wall_ns;
    return false;
}
