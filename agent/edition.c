/* edition: see edition.h. */
#include "agent/edition.h"

#include "lib/base/bytes.h"
#include "lib/base/ensure.h"
#include "lib/config/config.h"

#include <stdlib.h>

struct config_edition *edition_new(struct config *config)
{
    struct config_edition *e = must_alloc(sizeof *e);
    e->config = config;
    e->users = 1;
    return e;
}

struct config_edition *edition_take(struct config_edition *e)
{
    e->users++;
    return e;
}

void edition_drop(struct config_edition *e)
{
    if (e == NULL)
        return;
    ensure(e->users > 0);
    if (--e->users > 0)
        return;
    config_free(e->config);
    free(e);
}
