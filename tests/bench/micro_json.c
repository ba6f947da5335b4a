/* micro_json: how fast is the JSON reader? Reads a batch of events of about 300 bytes, as a whole and with
 * the members of every event, and prints MB/s of processor time. Under callgrind, whose instruction counts
 * are exact, give it one round: micro_json 1. */
#include "lib/codec/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { EVENTS = 1000, MEMBERS_MAX = 64 };

static void build(struct bytes *batch)
{
    bytes_init(batch, 1 << 20);
    enum err err = bytes_append_byte(batch, '[');
    for (int i = 0; i < EVENTS && err == OK; i++)
        err = bytes_printf(
            batch,
            "%s{\"specversion\":\"1.0\",\"id\":\"0196b0aa-7d0c-7c3e-9d57-1c3f5a0e%04x\",\"source\":\"/shop/"
            "eu\","
            "\"type\":\"com.acme.OrderPlaced\",\"subject\":\"user-%d\",\"time\":\"2026-05-04T09:12:33.004Z\","
            "\"data\":{\"total\":89.95,\"items\":[1,2],\"ship\":{\"days\":2,\"to\":\"Z\xc3\xbcrich\"},"
            "\"note\":\"leave at the door, please\",\"ok\":true}}",
            i == 0 ? "" : ",", i, i * 7);
    if (err == OK)
        err = bytes_append_byte(batch, ']');
    if (err != OK)
        abort();
}

static void read_whole(struct span text)
{
    if (json_check(text, NULL, NULL) != OK)
        abort();
}

static void read_members(struct span text)
{
    struct json_member members[MEMBERS_MAX];
    struct json_reader r;
    struct json_value v;
    size_t count, events = 0;
    json_reader_init(&r, text);
    if (json_enter_array(&r) != OK)
        abort();
    for (; json_next_element(&r) == OK; events++)
        if (json_read_object(&r, members, MEMBERS_MAX, &count, &v) != OK || count != 7)
            abort();
    if (json_finish(&r) != OK || events != EVENTS)
        abort();
}

static void measure(const char *name, void (*read)(struct span), struct span text, long rounds)
{
    clock_t from = clock();
    for (long i = 0; i < rounds; i++)
        read(text);
    double s = (double)(clock() - from) / CLOCKS_PER_SEC;
    printf("%-8s %zu bytes x %ld: %.0f MB/s\n", name, text.len, rounds,
           (double)text.len * (double)rounds / s / 1e6);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 1000;
    struct bytes batch;
    build(&batch);
    measure("whole", read_whole, bytes_span(&batch), rounds);
    measure("members", read_members, bytes_span(&batch), rounds);
    bytes_deinit(&batch);
    return 0;
}
