/* forward: every mode, every piece size, every way to be wrong, and the handshake. */
#include "lib/codec/forward.h"

#include <criterion/criterion.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define CHUNK "AAECAwQFBgcICQoLDA0ODw=="
#define ENTRY1 "\x92\xd7\x00\x69\xf8\x63\x01\x00\x3d\x09\x00\x82\xa3log\xa2hi\xa1n\x07"
#define ENTRY2 "\x92\xce\x69\xf8\x63\x01\x81\xa3log\xa2yo"
#define TAG \
    "\xa7" \
    "app.web"

static const struct forward_limits limits = {
    .message_bytes_max = 1 << 20, .inflated_bytes_max = 1 << 20, .entries_max = 100};

/* Describes a message and its entries in one line, for comparing. */
static void describe(struct forward_message *m, struct msgpack_renderer *r, struct bytes *out)
{
    static const char *const modes[] = {"message", "forward", "packed", "compressed"};
    struct forward_entry e;
    struct fault why;
    if (m->kind == FORWARD_PING) {
        cr_assert_eq(bytes_printf(out, "ping %.*s;", SPAN_FMT(m->ping.hostname)), OK);
        return;
    }
    cr_assert_eq(bytes_printf(out, "%s %.*s %.*s", modes[m->mode], SPAN_FMT(m->tag), SPAN_FMT(m->chunk)), OK);
    while (forward_next_entry(m, &e) == OK) {
        cr_assert_eq(bytes_printf(out, " | "), OK);
        if (e.refusal == FORWARD_TAKEN) {
            char when[RFC3339_TEXT + 1] = "now";
            if (!e.now)
                (void)rfc3339_format(e.time, when);
            cr_assert_eq(bytes_printf(out, "%s ", when), OK);
            if (forward_render_data(r, &e, out, &why) != OK)
                cr_assert_eq(bytes_printf(out, "refused: %s", why.text), OK);
        } else {
            cr_assert_eq(bytes_printf(out, "%s", forward_refusal_name(e.refusal)), OK);
        }
    }
    cr_assert_eq(bytes_printf(out, ";"), OK);
}

/* Feeds `stream` in pieces of `step` bytes. Returns the error that ended it, or ERR_AGAIN. */
static enum err run(const struct forward_limits *with, struct span stream, size_t step, struct bytes *out,
                    struct fault *why)
{
    struct decoder *decoder = decoder_new();
    bool json = stream.len > 0 && forward_sniff(stream.at[0]) == FORWARD_IS_JSON;
    struct forward *f = forward_new(with, decoder, json);
    struct msgpack_renderer r;
    enum err err = ERR_AGAIN;
    msgpack_renderer_init(&r, MSGPACK_TIMES_FLUENT);
    for (size_t at = 0; at < stream.len && err == ERR_AGAIN; at += step) {
        size_t len = stream.len - at < step ? stream.len - at : step;
        uint8_t *copy = malloc(len);
        memcpy(copy, stream.at + at, len);
        struct span piece = span_of(copy, len);
        struct forward_message m;
        while ((err = forward_feed(f, &piece, &m, why)) == OK)
            describe(&m, &r, out);
        cr_expect(err != ERR_AGAIN || piece.len == 0);
        free(copy);
    }
    if (err == ERR_AGAIN && forward_unfinished(f))
        cr_assert_eq(bytes_printf(out, " unfinished"), OK);
    msgpack_renderer_deinit(&r);
    forward_free(f);
    decoder_free(decoder);
    return err;
}

static void expect(struct span stream, const char *expected)
{
    for (size_t step = 1; step <= stream.len + 1; step = step < 16 ? step + 1 : step * 2) {
        struct bytes out;
        struct fault why = {0};
        bytes_init(&out, 1 << 16);
        cr_expect_eq(run(&limits, stream, step, &out, &why), ERR_AGAIN, "%s: %s", expected, why.text);
        cr_expect(span_is(bytes_span(&out), expected), "by %zu:\n%.*s\ninstead of\n%s", step,
                  SPAN_FMT(bytes_span(&out)), expected);
        bytes_deinit(&out);
    }
}

#define TIME1 "2026-05-04T09:12:33.004Z"
#define TIME2 "2026-05-04T09:12:33Z"
#define BOTH " | " TIME1 " {\"log\":\"hi\",\"n\":7} | " TIME2 " {\"log\":\"yo\"};"

Test(forward, message_mode)
{
    expect(SPAN("\x94" TAG "\xd7\x00\x69\xf8\x63\x01\x00\x3d\x09\x00\x82\xa3log\xa2hi\xa1n\x07\x81\xa5"
                "chunk\xb8" CHUNK),
           "message app.web " CHUNK " | " TIME1 " {\"log\":\"hi\",\"n\":7};");
    expect(SPAN("\x93" TAG "\xce\x69\xf8\x63\x01\x80"), "message app.web  | " TIME2 " {};");
    expect(SPAN("\x94" TAG "\xce\x69\xf8\x63\x01\x80\xc0"), "message app.web  | " TIME2 " {};");
    expect(SPAN("\x94" TAG "\xce\x69\xf8\x63\x01\x80\x80"), "message app.web  | " TIME2 " {};");
    expect(SPAN("\xdc\x00\x03\xc4\x03"
                "tag\x00\x80"),
           "message tag  | now {};");
}

Test(forward, forward_mode)
{
    expect(SPAN("\x92" TAG "\x92" ENTRY1 ENTRY2), "forward app.web " BOTH);
    expect(SPAN("\x93" TAG "\xdd\x00\x00\x00\x02" ENTRY1 ENTRY2 "\x82\xa4size\x02\xa5"
                "chunk\xa1x"),
           "forward app.web x" BOTH);
    expect(SPAN("\x92" TAG "\x90"), "forward app.web ;");
}

Test(forward, packed_mode)
{
    expect(SPAN("\x93" TAG "\xc4\x24" ENTRY1 ENTRY2 "\x82\xa4size\x02\xa5"
                "chunk\xb8" CHUNK),
           "packed app.web " CHUNK BOTH);
    expect(SPAN("\x92" TAG "\xd9\x24" ENTRY1 ENTRY2), "packed app.web " BOTH);
    expect(SPAN("\x92" TAG "\xdb\x00\x00\x00\x24" ENTRY1 ENTRY2), "packed app.web " BOTH);
    expect(SPAN("\x93" TAG "\xc5\x00\x24" ENTRY1 ENTRY2 "\x81\xaa"
                "compressed\xa4text"),
           "packed app.web " BOTH);
    expect(SPAN("\x92" TAG "\xc4\x00"), "packed app.web ;");
    /* The option says gzip and the bytes say msgpack: the bytes are believed. */
    expect(SPAN("\x93" TAG "\xc4\x24" ENTRY1 ENTRY2 "\x81\xaa"
                "compressed\xa4gzip"),
           "packed app.web " BOTH);
}

/* A message whose packed entries are `payload` in `encoding`, made of `members` members. */
static void compressed(struct bytes *out, enum encoding encoding, struct span payload, int members,
                       const char *named)
{
    struct encoder *e = encoder_new();
    struct bytes packed;
    msgpack_packer p;
    bytes_init(&packed, 1 << 20);
    for (int i = 0; i < members; i++)
        cr_assert_eq(encoder_encode(e, encoding, &payload, 1, &packed, NULL), OK);
    msgpack_packer_init(&p, out, msgpack_write);
    msgpack_pack_array(&p, 3);
    msgpack_pack_str_with_body(&p, "t", 1);
    msgpack_pack_bin_with_body(&p, packed.at, packed.len);
    msgpack_pack_map(&p, 2);
    msgpack_pack_str_with_body(&p, "compressed", 10);
    msgpack_pack_str_with_body(&p, named, strlen(named));
    msgpack_pack_str_with_body(&p, "chunk", 5);
    msgpack_pack_str_with_body(&p, "c", 1);
    bytes_deinit(&packed);
    encoder_free(e);
}

Test(forward, compressed_mode)
{
    static const char *const names[] = {"gzip", "zstd", "text"};
    for (size_t n = 0; n < COUNT(names); n++)
        for (int z = 0; z < 2; z++) {
            struct bytes stream;
            bytes_init(&stream, 1 << 20);
            compressed(&stream, z ? ENCODING_ZSTD : ENCODING_GZIP, SPAN(ENTRY2), 3, names[n]);
            expect(bytes_span(&stream), "compressed t c | " TIME2 " {\"log\":\"yo\"} | " TIME2
                                        " {\"log\":\"yo\"} | " TIME2 " {\"log\":\"yo\"};");
            bytes_deinit(&stream);
        }
}

Test(forward, compression_that_fails_refuses_the_message_and_goes_on)
{
    struct bytes stream;
    bytes_init(&stream, 1 << 20);
    compressed(&stream, ENCODING_GZIP, SPAN(ENTRY2), 1, "gzip");
    /* Damage the deflate data in the middle. */
    stream.at[25] ^= 0x55;
    stream.at[26] ^= 0x55;
    cr_assert_eq(bytes_append(&stream, SPAN("\x92" TAG "\x90")), OK);
    expect(bytes_span(&stream), "compressed t c | bad_compression;forward app.web ;");
    bytes_deinit(&stream);
    expect(SPAN("\x93" TAG "\xc4\x24" ENTRY1 ENTRY2 "\x81\xaa"
                "compressed\xa3lz4"),
           "packed app.web  | bad_compression;");
    expect(SPAN("\x93" TAG "\xc4\x03"
                "abc\x81\xaa"
                "compressed\xa4gzip"),
           "packed app.web  | bad_compression;");
}

Test(forward, inflated_entries_are_bounded)
{
    struct bytes zeros, stream, out;
    struct fault why;
    bytes_init(&zeros, 4 << 20);
    bytes_init(&stream, 1 << 20);
    bytes_init(&out, 1 << 20);
    while (zeros.len < (2 << 20))
        cr_assert_eq(bytes_append(&zeros, SPAN(ENTRY2)), OK);
    compressed(&stream, ENCODING_GZIP, bytes_span(&zeros), 1, "gzip");
    cr_expect_eq(run(&limits, bytes_span(&stream), 4096, &out, &why), ERR_TOO_BIG);
    bytes_deinit(&zeros);
    bytes_deinit(&stream);
    bytes_deinit(&out);
}

Test(forward, json_form)
{
    expect(SPAN("[\"app.web\",1777885953,{\"log\":\"hi\"},{\"chunk\":\"" CHUNK "\"}]"),
           "message app.web " CHUNK " | " TIME2 " {\"log\":\"hi\"};");
    expect(SPAN("[\"a\",1777885953.004,{ \"b\" : [ 1 ] }]\n[\"a\\u00e9\",null,{}] ,[\"a\",0,{},null]"),
           "message a  | " TIME1 " {\"b\":[1]};message a\xc3\xa9  | now {};message a  | now {};");
    expect(SPAN("[\"t\",[[1777885953,{\"x\":\"]\\\"}\"}],[[1777885953,{\"m\":1}],{\"y\":2}],[[0,{ "
                "}],{}]],{\"chunk\":\"a\\nb\"}]"),
           "forward t a\nb | " TIME2 " {\"x\":\"]\\\"}\"} | " TIME2
           " {\"y\":2,\"_meta\":{\"m\":1}} | now {};");
    expect(SPAN("[\"t\",[[1,2,3],[\"x\",{}],[1777885953,[]],7,[1777885953,{}]]]"),
           "forward t  | bad_entry | bad_time | bad_record | bad_entry | " TIME2 " {};");
    expect(SPAN("[\"\",1,{}][5,1,{}][\"t\",\"packed\"][\"t\",1]"),
           "message   | bad_tag;message   | bad_tag;packed t  | bad_entry;message t  | bad_record;");
    expect(SPAN("[\"t\",1,{},{\"fluent_signal\":1,\"chunk\":\"c\"}]"), "message t c | unsupported_signal;");
}

Test(forward, several_messages_in_one_read_and_keep_alives_between)
{
    expect(
        SPAN("\xc0\xc0\x92" TAG "\x90\xc0\x93" TAG "\xce\x69\xf8\x63\x01\x80\xc0\xc0\x92" TAG "\xc4\x00\xc0"),
        "forward app.web ;message app.web  | " TIME2 " {};packed app.web ;");
}

Test(forward, metadata_becomes_a_member)
{
    expect(SPAN("\x92\xa1t\x93"
                "\x92\x92\xce\x69\xf8\x63\x01\x81\xa1k\xa1v\x81\xa1"
                "a\x01"
                "\x92\x92\xce\x69\xf8\x63\x01\x80\x81\xa1"
                "a\x01"
                "\x92\x92\xce\x69\xf8\x63\x01\x81\xa1k\xa1v\x80"),
           "forward t  | " TIME2 " {\"a\":1,\"_meta\":{\"k\":\"v\"}} | " TIME2 " {\"a\":1} | " TIME2
           " {\"_meta\":{\"k\":\"v\"}};");
    expect(SPAN("\x94\xa1t\xce\x69\xf8\x63\x01\x81\xa1"
                "a\x01\x81\xa8metadata\x81\xa1k\xa1v"),
           "message t  | " TIME2 " {\"a\":1,\"_meta\":{\"k\":\"v\"}};");
    expect(SPAN("\x94\xa1t\xce\x69\xf8\x63\x01\x81\xa5_meta\x01\x81\xa8metadata\x81\xa1k\xa1v"),
           "message t  | " TIME2 " {\"_meta\":1};");
}

Test(forward, times)
{
    static const struct {
        struct span time;
        const char *meaning;
    } cases[] = {
        {SPAN("\xc0"), "now {}"},
        {SPAN("\x00"), "now {}"},
        {SPAN("\xd7\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "now {}"},
        {SPAN("\xc7\x08\x00\x69\xf8\x63\x01\x00\x3d\x09\x00"), TIME1 " {}"},
        {SPAN("\xd7\x00\x69\xf8\x63\x00\x3b\xd7\xd3\x00"), TIME1 " {}"}, /* 1,004,000,000 ns */
        {SPAN("\xd2\xff\xff\xff\xff"), "2106-02-07T06:28:15Z {}"},
        {SPAN("\xd2\x80\x00\x00\x00"), "2038-01-19T03:14:08Z {}"},
        {SPAN("\xd3\xff\xff\xff\xff\x7f\xff\xff\xff"), "bad_time"},
        {SPAN("\xcf\x00\x00\x01\x9d\xf2\x25\x1e\xac"), "bad_time"}, /* milliseconds */
        {SPAN("\xcb\x41\xda\x7e\x18\xc0\x40\x20\x00"), "2026-05-04T09:12:33.001953125Z {}"},
        {SPAN("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "bad_time"},
        {SPAN("\xcb\xbf\xf0\x00\x00\x00\x00\x00\x00"), "bad_time"},
        {SPAN("\xd4\x01\x00"), "bad_time"},
        {SPAN("\xd6\x00\x00\x00\x00\x00"), "bad_time"},
        {SPAN("\xc3"), "bad_time"},
        {SPAN("\x81\xa1"
              "a\x01"),
         "bad_time"},
        {SPAN("\x93\x01\x80\x80"), "bad_time"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bytes stream;
        char expected[200];
        bytes_init(&stream, 1024);
        cr_assert_eq(bytes_append(&stream, SPAN("\x92\xa1t\x91\x92")), OK);
        cr_assert_eq(bytes_append(&stream, cases[i].time), OK);
        cr_assert_eq(bytes_append(&stream, SPAN("\x80")), OK);
        (void)snprintf(expected, sizeof expected, "forward t  | %s;", cases[i].meaning);
        expect(bytes_span(&stream), expected);
        bytes_deinit(&stream);
    }
}

Test(forward, bad_entries_are_skipped_one_by_one)
{
    expect(SPAN("\x93\xa1t\x96" ENTRY2 "\x93\x01\x80\x80"
                "\x05"
                "\x92\x01\xa1x"
                "\x92\xa1x\x80" ENTRY2 "\x81\xa5"
                "chunk\xa1"
                "c"),
           "forward t c | " TIME2 " {\"log\":\"yo\"} | bad_entry | bad_entry | bad_record | bad_time | " TIME2
           " {\"log\":\"yo\"};");
    /* A record that the rendering refuses. */
    expect(SPAN("\x92\xa1t\x91\x92\xce\x69\xf8\x63\x01\x81\xa1x\xd4\x05\x00"),
           "forward t  | " TIME2 " refused: ext type 5 of 1 bytes;");
    /* Packed: what is behind a broken entry cannot be read. */
    expect(SPAN("\x92\xa1t\xc4\x20" ENTRY2 "\xc1" ENTRY2 "\x80\x80\x80"),
           "packed t  | " TIME2 " {\"log\":\"yo\"} | bad_entry;");
    expect(SPAN("\x92\xa1t\xc4\x10" ENTRY2 "\x92\xc0"),
           "packed t  | " TIME2 " {\"log\":\"yo\"} | bad_entry;");
}

Test(forward, bad_tags_and_signals_refuse_every_entry)
{
    expect(SPAN("\x93\xa0\x92" ENTRY1 ENTRY2 "\x81\xa5"
                "chunk\xa1"
                "c"),
           "forward  c | bad_tag | bad_tag;");
    expect(SPAN("\x92\x05\x92" ENTRY1 ENTRY2), "forward   | bad_tag | bad_tag;");
    expect(SPAN("\x92\x81\x01\x02\x91" ENTRY1), "forward   | bad_tag;");
    expect(SPAN("\x93\xa1t\x92" ENTRY1 ENTRY2 "\x82\xad"
                "fluent_signal\x02\xa5"
                "chunk\xa1"
                "c"),
           "forward t c | unsupported_signal | unsupported_signal;");
    expect(SPAN("\x93\xa1t\x91" ENTRY2 "\x81\xad"
                "fluent_signal\x00"),
           "forward t  | " TIME2 " {\"log\":\"yo\"};");
}

Test(forward, odd_options_are_passed_over)
{
    expect(SPAN("\x93\xa1t\x91" ENTRY2 "\x05"), "forward t  | " TIME2 " {\"log\":\"yo\"};");
    expect(SPAN("\x93\xa1t\x91" ENTRY2 "\x83\xa5"
                "chunk\x05\x90\x90\xa4size\xa1z"),
           "forward t  | " TIME2 " {\"log\":\"yo\"};");
}

Test(forward, too_many_entries_are_refused_one_by_one)
{
    struct forward_limits few = limits;
    struct bytes out;
    struct fault why;
    few.entries_max = 1;
    bytes_init(&out, 4096);
    cr_expect_eq(run(&few, SPAN("\x92\xa1t\x93" ENTRY2 ENTRY2 ENTRY2), 1000, &out, &why), ERR_AGAIN);
    cr_expect(span_is(bytes_span(&out),
                      "forward t  | " TIME2 " {\"log\":\"yo\"} | too_many_entries | too_many_entries;"));
    bytes_deinit(&out);
}

static void expect_closed(struct span stream, enum err expected)
{
    for (size_t step = 1; step < 40; step++) {
        struct bytes out;
        struct fault why = {0};
        bytes_init(&out, 4096);
        cr_expect_eq(run(&limits, stream, step, &out, &why), expected, "%02x %02x %02x: %s", stream.at[0],
                     stream.at[1], stream.at[2], why.text);
        cr_expect_eq(why.err, expected);
        bytes_deinit(&out);
    }
}

Test(forward, broken_frames_close)
{
    expect_closed(SPAN("\x92" TAG "\xc1"), ERR_MALFORMED);
    expect_closed(SPAN("\x92" TAG "\x90"
                       "{\"json\":1}"),
                  ERR_MALFORMED);
    expect_closed(SPAN("\xc0\x05\x05"), ERR_MALFORMED);
    expect_closed(SPAN("\x91" TAG), ERR_MALFORMED);
    expect_closed(SPAN("\x90\x90\x90"), ERR_MALFORMED);
    expect_closed(SPAN("\x95" TAG "\x01\x80\x80\x80"), ERR_MALFORMED);
    expect_closed(SPAN("\x96" TAG "\x01\x80\x80\x80\x80"), ERR_MALFORMED);
    expect_closed(SPAN("\x93" TAG "\xdb\x00\x20\x00\x00"), ERR_TOO_BIG);
    expect_closed(SPAN("\xdd\x08\x00\x00\x00"), ERR_TOO_BIG);
    expect_closed(SPAN("[\"t\",1,{}}"), ERR_MALFORMED);
    expect_closed(SPAN("[\"t\",1,{]]"), ERR_MALFORMED);
    expect_closed(SPAN("[\"t\",1,{\"a\":\"\xff\"}]"), ERR_MALFORMED);
    expect_closed(SPAN("[\"t\"]  "), ERR_MALFORMED);
    expect_closed(SPAN("[\"t\",1,{},{},{}]"), ERR_MALFORMED);
    expect_closed(SPAN("[\"t\",1,{}]{"), ERR_MALFORMED);
}

Test(forward, large_messages_close_as_soon_as_they_show)
{
    struct forward_limits small = {.message_bytes_max = 40, .inflated_bytes_max = 1000, .entries_max = 10};
    static const struct span streams[] = {
        SPAN("\x92\xa1t\x92" ENTRY1 ENTRY2),
        SPAN("\x92\xa1t\xc4\x24" ENTRY1 ENTRY2),
        SPAN("[\"t\",1,{\"text\":\"0123456789012345678901234567890123456789\"}]"),
    };
    for (size_t i = 0; i < COUNT(streams); i++)
        for (size_t step = 1; step < 60; step++) {
            struct bytes out;
            struct fault why;
            bytes_init(&out, 4096);
            enum err err = run(&small, streams[i], step, &out, &why);
            small.message_bytes_max = streams[i].len;
            cr_expect_eq(err, streams[i].len > 40 ? ERR_TOO_BIG : ERR_AGAIN, "%zu", streams[i].len);
            bytes_clear(&out);
            cr_expect_eq(run(&small, streams[i], step, &out, &why), ERR_AGAIN);
            small.message_bytes_max = 40;
            bytes_deinit(&out);
        }
}

Test(forward, chunk_ids_have_a_limit)
{
    for (int over = 0; over < 2; over++) {
        struct bytes stream, out;
        struct fault why;
        msgpack_packer p;
        char chunk[FORWARD_CHUNK_MAX + 1] = {0};
        bytes_init(&stream, 1 << 16);
        bytes_init(&out, 1 << 16);
        msgpack_packer_init(&p, &stream, msgpack_write);
        cr_assert_eq(bytes_append(&stream, SPAN("\x93\xa1t\x90\x81\xa5"
                                                "chunk")),
                     OK);
        msgpack_pack_bin_with_body(&p, chunk, (size_t)(FORWARD_CHUNK_MAX + over));
        cr_expect_eq(run(&limits, bytes_span(&stream), 500, &out, &why), over ? ERR_TOO_BIG : ERR_AGAIN);
        bytes_deinit(&stream);
        bytes_deinit(&out);
    }
}

Test(forward, an_end_inside_a_message_is_seen)
{
    expect(SPAN("\x92" TAG "\x90\x92" TAG), "forward app.web ; unfinished");
    expect(SPAN("[\"t\",1"), " unfinished");
}

Test(forward, deep_records_are_refused_alone)
{
    struct bytes stream, out;
    struct fault why;
    bytes_init(&stream, 4096);
    bytes_init(&out, 4096);
    cr_assert_eq(bytes_append(&stream, SPAN("\x92\xa1t\x92\x92\xce\x69\xf8\x63\x01\x81\xa1"
                                            "d")),
                 OK);
    for (int i = 0; i < MSGPACK_DEPTH_MAX; i++)
        cr_assert_eq(bytes_append_byte(&stream, 0x91), OK);
    cr_assert_eq(bytes_append(&stream, SPAN("\x01" ENTRY2)), OK);
    cr_expect_eq(run(&limits, bytes_span(&stream), 10, &out, &why), ERR_AGAIN);
    cr_expect(span_is(bytes_span(&out),
                      "forward t  | " TIME2 " refused: nested deeper than 64 | " TIME2 " {\"log\":\"yo\"};"),
              "%.*s", SPAN_FMT(bytes_span(&out)));
    bytes_deinit(&stream);
    bytes_deinit(&out);
}

Test(forward, first_bytes)
{
    static const uint8_t ndjson[] = {'{', ' ', '\t', '\r', '\n', 0xef},
                         msgpack[] = {0x92, 0x93, 0x94, 0x96, 0xdc, 0xdd, 0xc0},
                         unknown[] = {0, 'G', '"', 0x90, 0x91, 0x95, 0x97, 0x80, 0xff, 0x16, '1'};
    for (size_t i = 0; i < sizeof ndjson; i++)
        cr_expect_eq(forward_sniff(ndjson[i]), FORWARD_IS_NDJSON);
    for (size_t i = 0; i < sizeof msgpack; i++)
        cr_expect_eq(forward_sniff(msgpack[i]), FORWARD_IS_MSGPACK);
    for (size_t i = 0; i < sizeof unknown; i++)
        cr_expect_eq(forward_sniff(unknown[i]), FORWARD_IS_UNKNOWN);
    cr_expect_eq(forward_sniff('['), FORWARD_IS_JSON);
}

Test(forward, acknowledgements_echo_the_chunk)
{
    struct bytes out;
    bytes_init(&out, 1024);
    cr_assert_eq(forward_append_ack(false, SPAN(CHUNK), false, &out), OK);
    cr_expect(span_equal(bytes_span(&out), SPAN("\x81\xa3"
                                                "ack\xb8" CHUNK)));
    bytes_clear(&out);
    cr_assert_eq(forward_append_ack(false, SPAN("\x01\xff"), true, &out), OK);
    cr_expect(span_equal(bytes_span(&out), SPAN("\x81\xa3"
                                                "ack\xc4\x02\x01\xff")));
    bytes_clear(&out);
    cr_assert_eq(forward_append_ack(true, SPAN(CHUNK "\n"), false, &out), OK);
    cr_expect(span_is(bytes_span(&out), "{\"ack\":\"" CHUNK "\\n\"}"));
    bytes_deinit(&out);
    for (size_t max = 1; max < 20; max++)
        for (int json = 0; json < 2; json++) {
            bytes_init(&out, max);
            cr_expect_eq(forward_append_ack(json, SPAN(CHUNK), false, &out), ERR_TOO_BIG);
            cr_expect_eq(out.len, 0);
            bytes_deinit(&out);
        }
}

Test(forward, event_ids_follow_from_tag_chunk_and_index)
{
    struct forward_message a = {.tag = SPAN("ab"), .chunk = SPAN("c")},
                           b = {.tag = SPAN("a"), .chunk = SPAN("bc")}, c = a;
    char ids[4][UUID_TEXT];
    struct uuid read[4];
    forward_event_id(&a, 0, ids[0]);
    forward_event_id(&a, 0x12345678, ids[1]);
    forward_event_id(&b, 0, ids[2]);
    forward_event_id(&c, 0x12345678, ids[3]);
    for (size_t i = 0; i < 4; i++)
        cr_assert(uuid_parse(span_of(ids[i], UUID_TEXT), &read[i]), "%.*s", UUID_TEXT, ids[i]);
    cr_expect(span_equal(span_of(ids[1], UUID_TEXT), span_of(ids[3], UUID_TEXT)));
    cr_expect(span_equal(span_of(ids[0], UUID_TEXT - 8), span_of(ids[1], UUID_TEXT - 8)));
    cr_expect(span_is(span_of(ids[1] + UUID_TEXT - 8, 8), "12345678"));
    cr_expect(!span_equal(span_of(ids[0], UUID_TEXT - 8), span_of(ids[2], UUID_TEXT - 8)));
    cr_expect_eq(read[0].bytes[6] >> 4, 8);
    cr_expect_eq(read[0].bytes[8] >> 6, 2);
}

/* Not SHA-512, but as good for seeing what was hashed. */
static void digest_of(const struct span *parts, size_t count, uint8_t ret[FORWARD_DIGEST])
{
    memset(ret, 0, FORWARD_DIGEST);
    size_t at = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < parts[i].len; k++, at++)
            ret[at % FORWARD_DIGEST] = (uint8_t)(ret[at % FORWARD_DIGEST] * 31 + parts[i].at[k] + at);
}

static void hex_of(const struct span *parts, size_t count, char ret[2 * FORWARD_DIGEST + 1])
{
    uint8_t digest[FORWARD_DIGEST];
    digest_of(parts, count, digest);
    for (size_t i = 0; i < FORWARD_DIGEST; i++)
        (void)snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

static void sevens(void *ctx, void *into, size_t len)
{
    uint8_t *next = ctx;
    memset(into, (*next)++, len);
}

static const struct forward_user users[] = {{SPAN("ann"), SPAN("secret")}, {SPAN("bob"), SPAN("hidden")}};

static enum err shake(const char *key, const char *user, const char *password, size_t user_count,
                      struct bytes *out)
{
    uint8_t filler = 7;
    struct entropy entropy = {&filler, sevens};
    struct forward_auth auth = {.shared_key = SPAN("key"),
                                .hostname = SPAN("srv"),
                                .users = users,
                                .user_count = user_count,
                                .sha512 = digest_of};
    struct forward_handshake h;
    char key_hex[2 * FORWARD_DIGEST + 1], password_hex[2 * FORWARD_DIGEST + 1];
    cr_assert_eq(forward_helo(&h, &auth, &entropy, out), OK);
    struct span expected =
        user_count > 0
            ? SPAN("\x92\xa4HELO\x83\xa5nonce\xc4\x10\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07"
                   "\x07\x07\x07\x07\xa4"
                   "auth\xc4\x10\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08"
                   "\x08\x08\x08\x08\x08\xa9keepalive\xc3")
            : SPAN("\x92\xa4HELO\x83\xa5nonce\xc4\x10\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07"
                   "\x07\x07\x07\x07\xa4"
                   "auth\xc4\x00\xa9keepalive\xc3");
    cr_expect(span_equal(bytes_span(out), expected));
    bytes_clear(out);
    struct span proof[] = {SPAN("salt"), SPAN("cli"), span_of(h.nonce, sizeof h.nonce), span_str(key)};
    struct span login[] = {span_of(h.salt, sizeof h.salt), span_str(user), span_str(password)};
    hex_of(proof, 4, key_hex);
    hex_of(login, 3, password_hex);
    /* By way of the wire. */
    struct bytes wire;
    msgpack_packer p;
    bytes_init(&wire, 4096);
    msgpack_packer_init(&p, &wire, msgpack_write);
    msgpack_pack_array(&p, 6);
    const char *const fields[] = {"PING", "cli", "salt", key_hex, user, password_hex};
    for (size_t i = 0; i < COUNT(fields); i++)
        msgpack_pack_str_with_body(&p, fields[i], strlen(fields[i]));
    struct decoder *decoder = decoder_new();
    struct forward *f = forward_new(&limits, decoder, false);
    struct forward_message m;
    struct span piece = bytes_span(&wire);
    cr_assert_eq(forward_feed(f, &piece, &m, NULL), OK);
    cr_assert_eq(m.kind, FORWARD_PING);
    enum err err = forward_pong(&h, &auth, &m.ping, out, NULL);
    forward_free(f);
    decoder_free(decoder);
    bytes_deinit(&wire);
    return err;
}

Test(forward, handshake_takes_the_key_and_proves_it)
{
    struct bytes out;
    char hex[2 * FORWARD_DIGEST + 1];
    uint8_t nonce[FORWARD_NONCE];
    memset(nonce, 7, sizeof nonce);
    struct span ours[] = {SPAN("salt"), SPAN("srv"), span_of(nonce, sizeof nonce), SPAN("key")};
    hex_of(ours, 4, hex);
    bytes_init(&out, 4096);
    cr_expect_eq(shake("key", "", "", 0, &out), OK);
    cr_assert_eq(out.len, 1 + 5 + 1 + 1 + 4 + 2 + 128);
    cr_expect(span_starts(bytes_span(&out), SPAN("\x95\xa4PONG\xc3\xa0\xa3srv\xd9\x80")));
    cr_expect_eq(memcmp(out.at + out.len - 128, hex, 128), 0);
    bytes_clear(&out);
    cr_expect_eq(shake("key", "bob", "hidden", 2, &out), OK);
    bytes_deinit(&out);
}

Test(forward, handshake_refuses_with_a_reason)
{
    struct bytes out;
    bytes_init(&out, 4096);
    cr_expect_eq(shake("wrong", "", "", 0, &out), ERR_DENIED);
    cr_expect(span_equal(bytes_span(&out), SPAN("\x95\xa4PONG\xc2\xb3shared_key mismatch\xa0\xa0")));
    static const char *const logins[][2] = {
        {"bob", "secret"}, {"ann", "hidden"}, {"", ""}, {"eve", "secret"}};
    for (size_t i = 0; i < COUNT(logins); i++) {
        bytes_clear(&out);
        cr_expect_eq(shake("key", logins[i][0], logins[i][1], 2, &out), ERR_DENIED);
        cr_expect(span_starts(bytes_span(&out), SPAN("\x95\xa4PONG\xc2")));
    }
    bytes_deinit(&out);
}
