/* input_forward: Fluentd's forward protocol on a stream socket. See input_stream.h; lib/codec/forward.c has
 * the protocol itself.
 *
 * Each entry of a message becomes a neutral event: the tag is its type, the record its data. Messages that
 * came by one read share a batch, whose reply holds their acknowledgements in order, so that each leaves
 * after its events are durable. There is no negative acknowledgement: entries that can never be valid are
 * counted and acknowledged, since sending them again could not help; what failed to be stored is not, and the
 * connection is closed.
 *
 * A chunk that was stored within the last minutes is acknowledged and not stored again; a repeat of one that
 * is still on its way waits for it. */
#include "agent/agent.h"
#include "agent/input_stream.h"
#include "lib/base/ensure.h"
#include "lib/base/hash.h"
#include "lib/config/config.h"
#include "lib/event/attribute.h"
#include "lib/tls/digest.h"

#include <stdio.h>
#include <stdlib.h>

#define ENTRIES_MAX 100000
#define USERS_MAX 64
#define MEMBERS_MAX 256
#define SCRATCH_KEPT (1u << 20)

/* --- the handshake -------------------------------------------------------------------------------------- */

static bool shared_key_wanted(const struct stream_conn *c)
{
    return c->input->input.config->forward.shared_key.template != NULL;
}

static struct forward_auth auth_of(const struct stream_conn *c, struct forward_user *users)
{
    const struct config_input *config = c->input->input.config;
    unsigned count = config->forward.user_count > USERS_MAX ? USERS_MAX : config->forward.user_count;
    for (unsigned i = 0; i < count; i++)
        users[i] = (struct forward_user){span_str(config->forward.users[i].name),
                                         config->forward.users[i].password.value};
    return (struct forward_auth){.shared_key = config->forward.shared_key.value,
                                 .hostname = span_str(c->input->input.agent->config->agent.name),
                                 .users = count == 0 ? NULL : users,
                                 .user_count = count,
                                 .sha512 = digest_sha512};
}

static void forward_make(struct stream_conn *c)
{
    const struct config_input *config = c->input->input.config;
    const struct forward_limits limits = {.message_bytes_max = (size_t)config->max_body,
                                          .inflated_bytes_max = STREAM_INFLATED_BYTES,
                                          .entries_max = ENTRIES_MAX};
    c->forward = forward_new(&limits, c->input->input.agent->decoder, c->json);
}

void forward_begin(struct stream_conn *c)
{
    struct forward_user users[USERS_MAX];
    c->greeted = !shared_key_wanted(c);
    if (c->greeted)
        return;
    struct forward_auth auth = auth_of(c, users);
    c->protocol = STREAM_FORWARD;
    forward_make(c);
    if (forward_helo(&c->handshake, &auth, &c->input->input.agent->entropy, &c->out) != OK)
        c->finishing = true;
    flush_soon(&c->input->input.agent->flushes, &c->flusher);
}

/* The answer goes behind everything else; a no ends the connection. */
static enum stream_step take_ping(struct stream_conn *c, const struct forward_ping *ping)
{
    struct forward_user users[USERS_MAX];
    struct fault why;
    enum err err = ERR_DENIED;
    struct bytes *reply = &stream_open(c)->reply;
    if (!shared_key_wanted(c)) {
        if (forward_pong_no("this socket asks for no handshake", reply) != OK)
            bytes_clear(reply);
    } else if (!c->greeted) {
        struct forward_auth auth = auth_of(c, users);
        err = forward_pong(&c->handshake, &auth, ping, reply, &why);
        if (err != OK) {
            stream_reject(c, REJECT_UNAUTHORIZED, 1);
            stream_complain(c, LOG_WARN, why.text);
        }
    }
    c->greeted = err == OK;
    c->parting = err != OK;
    return err == OK ? STREAM_MORE : STREAM_END;
}

/* --- entries to events ---------------------------------------------------------------------------------- */

static enum api_reject reason_of(enum forward_refusal refusal)
{
    switch (refusal) {
    case FORWARD_UNSUPPORTED_SIGNAL:
        return REJECT_UNSUPPORTED_SIGNAL;
    case FORWARD_BAD_COMPRESSION:
        return REJECT_BAD_COMPRESSION;
    case FORWARD_TOO_MANY:
        return REJECT_TOO_LARGE;
    default:
        return REJECT_MALFORMED;
    }
}

/* Docker's log driver says which container spoke. */
static void set_docker_source(struct arena *arena, const struct json_member *members, size_t count,
                              struct event *e)
{
    const struct json_member *id = json_find(members, count, "container_id");
    const struct json_member *name = json_find(members, count, "container_name");
    struct span text;
    if (id == NULL || name == NULL || name->value.type != JSON_STRING ||
        json_decode_string(arena, &name->value, &text) != OK)
        return;
    if (text.len > 0 && text.at[0] == '/')
        text = span_of(text.at + 1, text.len - 1); /* its own way of writing it */
    char *source = arena_alloc(arena, text.len + 8);
    if (text.len == 0 || source == NULL)
        return;
    memcpy(source, "docker/", 7);
    memcpy(source + 7, text.at, text.len);
    struct span whole = span_of(source, text.len + 7);
    if (attribute_uri_fault(whole, false) != NULL)
        return;
    e->source = whole;
    if (e->id_given)
        e->key_hash = hash64(e->id, hash64(e->source, 0));
}

static void set_subject(struct arena *arena, const struct json_member *m, struct event *e)
{
    struct span text;
    if (m == NULL)
        return;
    if (m->value.type == JSON_NUMBER)
        text = m->value.text;
    else if (m->value.type != JSON_STRING || json_decode_string(arena, &m->value, &text) != OK)
        return;
    if (text.len > 0 && attribute_text_fault(text) == NULL)
        e->subject = text;
}

/* What the record says of itself beyond being data. */
static void look_into(struct stream_conn *c, struct arena *arena, struct event *e)
{
    const char *field = c->input->input.config->subject_field;
    bool docker = c->json ? memmem(e->data.at, e->data.len, "container_id", 12) != NULL : c->input->renderer.found;
    if (!docker && field == NULL)
        return;
    struct json_member members[MEMBERS_MAX];
    struct json_value whole;
    size_t count;
    enum err err = json_check_object(e->data, members, MEMBERS_MAX, &count, &whole, NULL);
    if (err != OK && err != ERR_TOO_BIG)
        return;
    if (docker)
        set_docker_source(arena, members, count, e);
    if (field != NULL)
        set_subject(arena, json_find(members, count, field), e);
}

/* With a chunk the id is the same whenever the sender repeats it, also beyond our memory of chunks. Without one
 * .at stays NULL. False: the arena is full. */
static bool make_id(struct arena *arena, struct forward_message *m, const struct forward_entry *entry,
                    struct span *ret)
{
    *ret = (struct span){0};
    if (!m->has_chunk)
        return true;
    char *text = arena_alloc(arena, UUID_TEXT);
    if (text == NULL)
        return false;
    forward_event_id(m, entry->index, text);
    *ret = span_of(text, UUID_TEXT);
    return true;
}

/* One rendered record, which lies in scratch. REJECT_REASONS: taken. */
static enum api_reject take_record(struct stream_conn *c, struct event_batch *b, const struct forward_entry *entry,
                                   struct span tag)
{
    struct fault why;
    struct span data = arena_copy(&b->arena, bytes_span(&c->input->scratch));
    struct event *e = event_batch_next(b);
    struct span id;
    if (tag.at == NULL || data.at == NULL || e == NULL || !make_id(&b->arena, &c->message, entry, &id))
        return REJECT_TOO_LARGE;
    enum err err = event_make(&b->reading, id, tag, data, entry->now ? NULL : &entry->time, e, &why);
    if (err != OK)
        return err == ERR_TOO_BIG ? REJECT_TOO_LARGE : REJECT_MALFORMED;
    look_into(c, &b->arena, e);
    event_batch_keep(b);
    return REJECT_REASONS;
}

static void refuse_entry(struct stream_conn *c, enum api_reject reason, const char *what)
{
    if (reason == REJECT_REASONS)
        return;
    stream_reject(c, reason, 1);
    stream_complain(c, LOG_INFO, what);
}

/* The next entry. *tag is the tag in the arena of batch *serial. True when it was a large one. */
static bool take_entry(struct stream_conn *c, const struct forward_entry *entry, struct span *tag,
                       uint32_t *serial)
{
    struct input_stream *in = c->input;
    struct fault why;
    if (entry->refusal != FORWARD_TAKEN) {
        refuse_entry(c, reason_of(entry->refusal), forward_refusal_name(entry->refusal));
        return false;
    }
    bytes_clear(&in->scratch);
    in->renderer.found = false;
    if (forward_render_data(&in->renderer, entry, &in->scratch, &why) != OK) {
        refuse_entry(c, REJECT_MALFORMED, why.text);
        return false;
    }
    bool large = in->scratch.len >= STREAM_LARGE_BYTES;
    if (large)
        stream_split(c);
    struct stream_batch *b = stream_open(c);
    if (b->serial != *serial)
        *tag = arena_copy(&b->events.arena, c->message.tag);
    *serial = b->serial;
    refuse_entry(c, take_record(c, &b->events, entry, *tag), "a record that is no event");
    return large;
}

/* --- chunks --------------------------------------------------------------------------------------------- */

static void append_ack(struct stream_conn *c, const struct forward_message *m)
{
    if (forward_append_ack(c->json, m->chunk, m->chunk_is_bin, &stream_open(c)->reply) != OK)
        c->finishing = true; /* more acknowledgements in one batch than it can hold: the sender asks again */
}

/* A chunk that we know already: true, and its answer is arranged. */
static bool known_chunk(struct stream_conn *c, const struct forward_message *m, struct chunk_key key)
{
    struct stream_batch *b = stream_open(c);
    uint32_t owner = 0;
    enum chunk_state state =
        chunk_memory_look(&c->input->chunks, key, clock_mono_us(&c->input->input.agent->clock), &owner);
    if (state == CHUNK_UNKNOWN)
        return false;
    c->input->input.counters.duplicates++;
    append_ack(c, m);
    if (state == CHUNK_PENDING && owner != b->serial) {
        b->waits_chunk = true;
        b->wanted = key;
        list_append(&c->input->waiters, &b->waiter);
    }
    return true;
}

static void remember_chunk(struct stream_conn *c, struct chunk_key key)
{
    struct stream_batch *b = stream_open(c);
    struct stream_chunk *chunk = arena_alloc(&b->events.arena, sizeof *chunk);
    if (chunk == NULL)
        return; /* its ids are the same when it comes again */
    *chunk = (struct stream_chunk){.next = b->chunks, .key = key};
    b->chunks = chunk;
    chunk_memory_add(&c->input->chunks, key, clock_mono_us(&c->input->input.agent->clock), b->serial);
}

/* All of its entries are in batches: the acknowledgement stands behind the last of them. */
static void finish_message(struct stream_conn *c)
{
    const struct forward_message *m = &c->message;
    c->in_message = false;
    if (!m->has_chunk)
        return;
    remember_chunk(c, chunk_key_of(&c->input->chunks, m->tag, m->chunk));
    append_ack(c, m);
}

bool forward_waits(struct stream_batch *b)
{
    struct input_stream *in = b->conn->input;
    uint32_t owner;
    if (!b->waits_chunk)
        return false;
    enum chunk_state state =
        chunk_memory_look(&in->chunks, b->wanted, clock_mono_us(&in->input.agent->clock), &owner);
    if (state == CHUNK_PENDING)
        return true;
    b->failed |= state == CHUNK_UNKNOWN; /* the first one failed, and with it this one */
    return false;
}

void forward_done(struct stream_conn *c, struct stream_batch *b)
{
    struct input_stream *in = c->input;
    struct flush_queue *flushes = &in->input.agent->flushes;
    for (struct stream_chunk *chunk = b->chunks; chunk != NULL; chunk = chunk->next)
        chunk_memory_settle(&in->chunks, chunk->key, !b->failed);
    for (struct list *node = in->waiters.next; b->chunks != NULL && node != &in->waiters; node = node->next)
        flush_soon(flushes, &CONTAINER_OF(node, struct stream_batch, waiter)->conn->flusher);
    if (b->failed || c->closing)
        return;
    if (bytes_append(&c->out, bytes_span(&b->reply)) != OK)
        c->finishing = true;
    flush_soon(flushes, &c->flusher);
}

/* --- messages ------------------------------------------------------------------------------------------- */

/* The message's entries, as many as one batch should hold; the rest goes into the next. So slices of a
 * message may be durable while its acknowledgement is not due yet; should it come again then, its ids are the
 * same. False: there is more. */
static bool take_entries(struct stream_conn *c)
{
    struct forward_entry entry;
    struct span tag = {0};
    uint32_t serial = 0;
    while (stream_open(c)->events.arena.used <= STREAM_BATCH_BYTES) {
        if (forward_next_entry(&c->message, &entry) != OK) {
            finish_message(c);
            return true;
        }
        if (take_entry(c, &entry, &tag, &serial))
            break;
    }
    if (c->input->scratch.cap > SCRATCH_KEPT)
        bytes_deinit(&c->input->scratch);
    return false;
}

static enum stream_step take_message(struct stream_conn *c)
{
    const struct forward_message *m = &c->message;
    if (m->kind == FORWARD_PING)
        return take_ping(c, &m->ping);
    if (!c->greeted) {
        stream_reject(c, REJECT_UNAUTHORIZED, 1);
        stream_complain(c, LOG_WARN, "sent events before the handshake that this socket asks for");
        return STREAM_END;
    }
    if (m->has_chunk && known_chunk(c, m, chunk_key_of(&c->input->chunks, m->tag, m->chunk)))
        return stream_open(c)->waits_chunk ? STREAM_OFFER : STREAM_MORE;
    c->in_message = true;
    return take_entries(c) ? STREAM_MORE : STREAM_OFFER;
}

static enum stream_step broken(struct stream_conn *c, enum err err, const char *text)
{
    char what[360];
    if (!c->greeted) {
        stream_reject(c, REJECT_UNAUTHORIZED, 1);
        stream_complain(c, LOG_WARN,
                        "does not speak the forward protocol, and this socket asks for its handshake");
        stream_farewell(c, "unauthorized",
                        "this socket takes the Fluentd forward protocol with a shared key only");
        return STREAM_END;
    }
    stream_reject(c, err == ERR_TOO_BIG ? REJECT_TOO_LARGE : REJECT_MALFORMED, 1);
    (void)snprintf(what, sizeof what, "%s%s", text,
                   err == ERR_TOO_BIG
                       ? "; such a chunk would come again for ever: raise max_body, or make the "
                         "sender's chunks smaller"
                       : "");
    stream_complain(c, err == ERR_TOO_BIG ? LOG_WARN : LOG_INFO, what);
    return STREAM_END;
}

static enum stream_step take_messages(struct stream_conn *c, struct span *piece)
{
    struct fault why;
    if (c->in_message && !take_entries(c))
        return STREAM_OFFER;
    for (;;) {
        enum err err = forward_feed(c->forward, piece, &c->message, &why);
        if (err == ERR_AGAIN)
            return STREAM_MORE;
        if (err != OK)
            return broken(c, err, why.text);
        enum stream_step step = take_message(c);
        if (step != STREAM_MORE)
            return step;
        if (c->open != NULL && c->open->events.arena.used > STREAM_BATCH_BYTES)
            return STREAM_OFFER;
    }
}

enum stream_step forward_take(struct stream_conn *c, struct span *piece)
{
    if (c->forward == NULL)
        forward_make(c);
    enum stream_step step = take_messages(c, piece);
    if (!c->in_message)
        forward_release(c->forward);
    return step;
}

void forward_eof(struct stream_conn *c)
{
    if (c->forward != NULL && forward_unfinished(c->forward))
        stream_reject(c, REJECT_TRUNCATED, 1);
}
