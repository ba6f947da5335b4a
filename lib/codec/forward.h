/* forward: the server's side of Fluentd's forward protocol, version 1 and 1.5, as a sans-IO decoder.
 *
 * A connection is a sequence of messages, in msgpack or in JSON (the first byte decides, forward_sniff()).
 * Bytes go in as they arrive; a message comes out when its last byte is there, with its tag, its chunk id and
 * an iterator over its entries. Nothing is allocated by a number found in the input, and a message that lies
 * within one piece is read where it lies.
 *
 *     while ((err = forward_feed(f, &piece, &message, &why)) == OK)
 *         while (forward_next_entry(&message, &entry) == OK)
 *             entry.refusal == FORWARD_TAKEN: an event; forward_render_data() makes its data.
 *             else: count it under forward_refusal_name(); it can never be valid, so it is skipped and
 * acknowledged. err == ERR_AGAIN: the piece is used up. Anything else: framing cannot be trusted, or the
 * message is larger than we take: acknowledge what came before, once durable, and close.
 *
 * What is asked of the caller: after the message's events are durable, and if it has a chunk,
 * forward_append_ack(). There is no negative answer: what a sender understands is a missing acknowledgement
 * and a closed connection.
 *
 * Source: the Forward Protocol Specification v1 and v1.5 in the wiki of github.com/fluent/fluentd, and what
 * its own server and fluent-bit's take beyond it (any tag type that is bytes, float times, bytes that
 * contradict `compressed`). */
#ifndef PENSTOCK_CODEC_FORWARD_H
#define PENSTOCK_CODEC_FORWARD_H

#include "lib/base/rng.h"
#include "lib/codec/compress.h"
#include "lib/codec/json.h"
#include "lib/codec/msgpack.h"
#include "lib/codec/uuid7.h"

enum { FORWARD_TAG_MAX = 1024, FORWARD_CHUNK_MAX = 1024, FORWARD_NONCE = 16, FORWARD_DIGEST = 64 };

/* What the first byte of a connection to a stream socket says. */
enum forward_protocol { FORWARD_IS_NDJSON, FORWARD_IS_JSON, FORWARD_IS_MSGPACK, FORWARD_IS_UNKNOWN };
enum forward_protocol forward_sniff(uint8_t first);

struct forward_limits {
    size_t message_bytes_max;  /* as received */
    size_t inflated_bytes_max; /* its entries, decompressed */
    size_t entries_max;        /* per message; more are refused one by one */
};

/* Why an entry is no event. Order is free; names are for counters. */
enum forward_refusal {
    FORWARD_TAKEN,
    FORWARD_UNSUPPORTED_SIGNAL, /* metrics, traces */
    FORWARD_BAD_COMPRESSION,    /* does not inflate, or in a way that we do not know */
    FORWARD_BAD_TAG,            /* not UTF-8, empty, or over FORWARD_TAG_MAX */
    FORWARD_BAD_TIME,
    FORWARD_BAD_RECORD, /* not a map */
    FORWARD_BAD_ENTRY,  /* not [time, record]; in packed entries also a broken one, which hides all behind it
                         */
    FORWARD_TOO_MANY,   /* beyond entries_max */
    FORWARD_REFUSALS,
};
const char *forward_refusal_name(enum forward_refusal refusal); /* "bad_time" */

enum forward_kind { FORWARD_EVENTS, FORWARD_PING };
enum forward_mode { FORWARD_MESSAGE, FORWARD_FORWARD, FORWARD_PACKED, FORWARD_COMPRESSED };

/* A client's part of the handshake: all spans borrowed from the message. */
struct forward_ping {
    struct span hostname, salt, digest, username, password;
};

/* Good until the next call of forward_feed(), as long as the piece's memory is. */
struct forward_message {
    enum forward_kind kind;
    enum forward_mode mode;
    bool json;
    bool has_chunk;
    bool chunk_is_bin;
    struct span chunk;        /* opaque */
    struct span tag;          /* as sent: UTF-8 unless its entries are refused */
    size_t bytes;             /* of the whole message, as received */
    struct forward_ping ping; /* FORWARD_PING alone */
    /* The iterator's own. */
    enum forward_refusal refusal; /* of all entries */
    struct span rest, time, record, metadata;
    struct json_reader reader;
    size_t index, entries_max;
    bool ended;
    char id[UUID_TEXT + 1]; /* of its events, but for the index; empty: not made yet */
};

struct forward_entry {
    size_t index; /* in the message, refused ones counted */
    enum forward_refusal refusal;
    bool json;
    bool now; /* the sender gave no time: take the moment of receipt */
    struct instant time;
    struct span record, metadata; /* msgpack or JSON; metadata may be empty */
};

struct forward; /* one per connection */

/* `decoder` is shared with whoever else uses it on this thread, and outlives the result. `json`: by
 * forward_sniff(). */
struct forward *forward_new(const struct forward_limits *limits, struct decoder *decoder, bool json);
void forward_free(struct forward *f);

/* See above. The errors that end the connection: ERR_MALFORMED (broken msgpack or JSON, something that is no
 * message), ERR_TOO_BIG (message, inflated entries, or chunk id over its limit, nested too deep to be walked
 * over); `why` says which, with sizes. */
MUST_USE enum err forward_feed(struct forward *f, struct span *piece, struct forward_message *ret,
                               struct fault *why);
/* Bytes of a message that is not whole are held: the end of the stream now would cut it. */
bool forward_unfinished(const struct forward *f);
/* The message that was given out last is used up: its memory is given back now, not at the next call. */
void forward_release(struct forward *f);
/* Bytes of the message that has begun, or that was given out last, in our own memory. */
size_t forward_held(const struct forward *f);

/* ERR_NOT_FOUND behind the last entry. */
MUST_USE enum err forward_next_entry(struct forward_message *m, struct forward_entry *ret);

/* Appends the entry's record as a JSON object, with its metadata, when it has some, as the member `_meta`.
 * `r` must be one for MSGPACK_TIMES_FLUENT. Errors as msgpack_render(): the event is to be refused
 * (bad_record). */
MUST_USE enum err forward_render_data(struct msgpack_renderer *r, const struct forward_entry *entry,
                                      struct bytes *out, struct fault *why);

/* Writes the id of an entry of a message with a chunk: the same whenever the sender repeats it. It is a UUID of
 * version 8 (RFC 9562 section 5.8), that is of our own making: 90 bits of SHA-1 over tag and chunk, and the index
 * in the last 32. So events of one message differ in eight digits only, which costs little here and less after
 * compression. */
void forward_event_id(struct forward_message *m, size_t index, char ret[UUID_TEXT]);

/* Appends {"ack": chunk} in the connection's encoding. ERR_TOO_BIG leaves `out` as it was. */
MUST_USE enum err forward_append_ack(bool json, struct span chunk, bool chunk_is_bin, struct bytes *out);

/* --- the handshake, for sockets that ask for a shared key ---------------------------------------------- */

struct forward_user {
    struct span name, password;
};

/* From configuration. SHA-512 is the caller's: it has a library for it. */
struct forward_auth {
    struct span shared_key, hostname;
    const struct forward_user *users; /* none: no user login */
    size_t user_count;
    void (*sha512)(const struct span *parts, size_t count, uint8_t ret[FORWARD_DIGEST]);
};

/* Per connection. */
struct forward_handshake {
    uint8_t nonce[FORWARD_NONCE], salt[FORWARD_NONCE];
};

/* Draws the nonces and appends HELO, the first thing on the connection. */
MUST_USE enum err forward_helo(struct forward_handshake *h, const struct forward_auth *auth,
                               struct entropy *entropy, struct bytes *out);
/* Checks the client's PING and appends PONG. ERR_DENIED: PONG says no, `why` says why to us; close after
 * writing it. */
MUST_USE enum err forward_pong(const struct forward_handshake *h, const struct forward_auth *auth,
                               const struct forward_ping *ping, struct bytes *out, struct fault *why);
/* PONG for a client that was asked nothing: false, with this reason. */
MUST_USE enum err forward_pong_no(const char *reason, struct bytes *out);

#endif
