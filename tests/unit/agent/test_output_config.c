/* What a user writes about a spool is what the spool is told. */
#include "agent/output_config.h"
#include "lib/config/config.h"

#include <criterion/criterion.h>

#define MIB (UINT64_C(1) << 20)

static const char *variable(void *ctx, const char *name)
{
    (void)ctx;
    (void)name;
    return NULL;
}

static void spool_config(const char *text, struct spool_config *ret)
{
    static const struct config_env env = {.variable = variable, .host_name = "h"};
    struct config_report r;
    config_report_init(&r);
    struct config *c = config_parse(span_str(text), "t", &env, &r);
    cr_assert(c != NULL);
    output_config_spool(&c->outputs[0], c->agent.min_free, ret);
    ret->name = NULL; /* the configuration's */
    config_report_deinit(&r);
    config_free(c);
}

Test(output_config, every_option_of_a_spool_reaches_it)
{
    struct spool_config c;
    spool_config(
        "agent: { min_free: 3MiB }\n"
        "outputs:\n"
        "  o:\n"
        "    type: http\n"
        "    endpoint: https://h/\n"
        "    spool: { max_bytes: 64MiB, segment_bytes: 2MiB, durability: interval, when_full: drop_oldest,\n"
        "             max_age: 1h, strict_identity: true, wipe_recycled: true, require_local_fs: true,\n"
        "             scrub: 1MiB }\n"
        "    dead_letter: { max_bytes: 5MiB, when_full: drop_newest }\n",
        &c);
    cr_expect_eq(c.min_free, 3 * MIB);
    cr_expect_eq(c.max_bytes, 64 * MIB);
    cr_expect_eq(c.segment_bytes, 2 * MIB);
    cr_expect_eq(c.durability, SPOOL_INTERVAL);
    cr_expect_eq(c.when_full, SPOOL_DROP_OLDEST);
    cr_expect_eq(c.max_age_us, UINT64_C(3600000000));
    cr_expect(c.strict_identity);
    cr_expect(c.wipe_recycled);
    cr_expect(c.require_local_fs);
    cr_expect_eq(c.scrub_bytes_s, MIB);
    cr_expect_eq(c.dead_max_bytes, 5 * MIB);
    cr_expect(c.dead_drop_newest);
}

Test(output_config, a_spool_is_safe_by_default)
{
    struct spool_config c;
    spool_config("outputs: { o: { type: http, endpoint: https://h/ } }\n", &c);
    cr_expect_eq(c.durability, SPOOL_FSYNC);
    cr_expect_eq(c.when_full, SPOOL_BLOCK);
    cr_expect_eq(c.max_age_us, 0);
    cr_expect_not(c.dead_drop_newest);
    cr_expect_not(c.require_local_fs);
    cr_expect_eq(c.scrub_bytes_s, 0);
}
