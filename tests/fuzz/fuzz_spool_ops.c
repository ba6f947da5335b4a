/* fuzz_spool_ops: control ops, decoded and applied to accounts that have some history. Whatever they say, the
 * ledger balances or they are refused, and a state written from the result is read back as the same. */
#include "lib/base/ensure.h"
#include "lib/spool/accounts.h"

static void write_and_read_back(const struct accounts *a)
{
    struct accounts back;
    struct bytes state;
    bytes_init(&state, 64 << 20);
    accounts_init(&back);
    if (accounts_put_state(a, a->next_seq, 0, &state) == OK) {
        bool good = accounts_apply(&back, bytes_span(&state));
        ensure(good);
        ensure(accounts_pending(&back) == accounts_pending(a));
        ensure(accounts_dead(&back) == accounts_dead(a));
        ensure(back.low_water == a->low_water && back.batch_count == a->batch_count);
        ensure(back.taken.count == a->taken.count && back.settled.count == a->settled.count);
    }
    accounts_deinit(&back);
    bytes_deinit(&state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct accounts a;
    struct span rest = span_of(data, size);
    struct op op;
    while (rest.len > 0 && op_next(&rest, &op))
        ;
    accounts_init(&a);
    accounts_stored(&a, 1, 1000);
    struct bytes ops;
    bytes_init(&ops, 4096);
    struct spool_run runs[2] = {{5, 20}, {40, 5}};
    struct spool_assignment assignment = {.partition = SPAN("p"), .runs = runs, .run_count = 2};
    enum err err = op_put_assign(&ops, 1, 1, 0, &assignment);
    ensure(err == OK);
    bool good = accounts_apply(&a, bytes_span(&ops));
    ensure(good);
    uint64_t low_water = a.low_water;
    if (accounts_apply(&a, span_of(data, size))) {
        ensure(accounts_balanced(&a));
        ensure(a.low_water < a.next_seq);
        write_and_read_back(&a);
        (void)low_water;
    }
    bytes_deinit(&ops);
    accounts_deinit(&a);
    return 0;
}
