/* producer: applications that offer events, in lots of all sizes, and believe the answers. */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdio.h>

#define LOT_MAX 64

static uint8_t bodies[4 * 1024 * 1024];

bool producer_append(struct world *w, unsigned count, uint32_t body_max)
{
    struct spool_record records[LOT_MAX];
    char ids[LOT_MAX][16], partitions[LOT_MAX][4];
    uint64_t bytes = 0, room_bytes = 0, seq = 0;
    uint32_t first = (uint32_t)w->model.event_count + 1;
    uint64_t now_ns = process_host(w).wall_ns(w);
    for (unsigned k = 0; k < count; k++) {
        uint32_t len = BODY_HEAD + w->body_extra + decide(&w->luck, body_max);
        uint8_t partition = (uint8_t)decide(&w->luck, w->knobs.partitions);
        uint32_t event =
            model_offer(&w->model, len, partition, decide_rarely(&w->luck, w->knobs.one_in_bad_event));
        model_body(event, len, bodies + bytes);
        int id_len = snprintf(ids[k], sizeof(ids[k]), "e%u", event);
        (void)snprintf(partitions[k], sizeof(partitions[k]), "p%u", partition % 10u);
        records[k] = (struct spool_record){.partition = span_of(partitions[k], 2),
                                           .id = span_of(ids[k], (size_t)id_len),
                                           .body = span_of(bodies + bytes, len),
                                           .wall_ns = now_ns};
        bytes += len;
        room_bytes += len + (uint64_t)id_len + 2;
    }
    enum spool_state state = spool_state(w->spool);
    enum err room = spool_room(w->spool, count, room_bytes);
    enum err err = spool_append(w->spool, records, count, &seq);
    world_trace(w, (uint64_t)err << 32 | count);
    if (w->verbose)
        world_say(w, "append %u (%" PRIu64 " bytes): %s seq %" PRIu64, count, bytes, err_name(err),
                  err == OK ? seq : 0);
    if (err == OK && room != OK && w->knobs.spool.when_full != SPOOL_DROP_NEWEST)
        world_fail(w, "append took what spool_room() refused (%s)", err_name(room));
    if (err != OK && room == OK)
        world_fail(w, "append refused (%s) what spool_room() had room for", err_name(err));
    if (err == OK && (state == SPOOL_FAILED || state == SPOOL_CLOSED || state == SPOOL_OPENING))
        world_fail(w, "append taken in state %d", state);
    if (err != OK) {
        w->spacious = w->spacious && err == ERR_CLOSED;
        w->model.event_count -= count; /* the numbers of refused ones are used again: they must not turn up */
        return false;
    }
    struct spool_ledger l;
    spool_ledger(w->spool, &l);
    if (w->knobs.spool.when_full == SPOOL_DROP_NEWEST && l.dropped[SPOOL_DROP_SHED] != w->model.shed) {
        w->model.shed += count;
        world_met(w, MET_SHED);
    } else {
        model_appended(w, first, count, seq);
    }
    return true;
}

void producer_turn(struct world *w)
{
    if (world_open(w)) {
        uint32_t body_max =
            decide_rarely(&w->luck, w->knobs.big_one_in) ? w->knobs.body_max * 64 : w->knobs.body_max;
        unsigned count = 1 + decide(&w->luck, body_max > 4096 ? 2 : w->knobs.append_max);
        (void)producer_append(w, count, body_max);
        if (decide(&w->luck, 16) == 1)
            spool_flush(w->spool);
    }
    world_at(w, 1 + decide(&w->luck, w->knobs.produce_us), EV_PRODUCE, 0, 0, 0, 0);
}
