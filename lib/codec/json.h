/* json: a strict one-pass reader of JSON texts (RFC 8259), and the few ways in which we write them.
 *
 * The agent keeps events as bytes; what it needs of a text is to know that it is valid, where its elements
 * begin and end, and what a few top-level members say. So nothing here builds a tree or allocates: a
 * `struct json_reader` walks over the caller's bytes once, checks everything it passes (syntax, UTF-8,
 * escapes and their surrogate pairs, depth) and hands out spans into those bytes. A batch of events is
 * scanned exactly once: enter the array, then read each element together with its members.
 *
 *     struct json_reader r;
 *     json_reader_init(&r, body);
 *     if (json_enter_array(&r) != OK) ...
 *     while ((err = json_next_element(&r)) == OK) {
 *         err = json_read_object(&r, members, MAX, &count, &value);
 *         OK: an element, valid. ERR_TOO_BIG: valid syntax, but too deep or too many members for us; the
 *         reader stands behind it and the next element can be read. ERR_MALFORMED: nothing behind this
 *         point can be read; r.error and json_offset() say what and where.
 *     }
 *     err == ERR_NOT_FOUND: the array is closed. json_finish() then checks that nothing follows.
 *
 * Lone surrogates (\ud800 without its partner) are ERR_MALFORMED, or, after json_forgive(), ERR_TOO_BIG.
 * Depth: a value that nests more than JSON_DEPTH_MAX arrays and objects, counted from the value that was
 * read (not from the envelope that was entered), is ERR_TOO_BIG; one deeper than JSON_DEPTH_READABLE is
 * ERR_MALFORMED, since the reader's own stack ends there.
 * A UTF-8 byte order mark is refused like any other stray byte; a caller that allows one skips it first.
 * Repeated keys are legal JSON; json_repeated_key() finds them for those who refuse them. */
#ifndef PENSTOCK_CODEC_JSON_H
#define PENSTOCK_CODEC_JSON_H

#include "lib/base/bytes.h"

enum { JSON_DEPTH_MAX = 64, JSON_DEPTH_READABLE = 512 };

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* By the first byte of a value, which is known to be valid or is still to be checked. */
static inline enum json_type json_type_of(uint8_t first)
{
    switch (first) {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 't':
        return JSON_TRUE;
    case 'f':
        return JSON_FALSE;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

struct json_value {
    struct span text; /* the whole value as it stands, strings with their quotes */
    enum json_type type;
    bool escaped; /* a string that contains a backslash */
    bool odd;     /* a string that contains that, DEL, or anything beyond ASCII */
    bool spaced;  /* an array or object with white space between its tokens: see json_compact() */
};

struct json_key {
    struct span text; /* the bytes between the quotes */
    bool escaped;     /* contains a backslash */
};

struct json_member {
    struct json_key key;
    struct json_value value;
};

/* Owned by the caller, on its stack. Fields are for reading only. */
struct json_reader {
    const uint8_t *start, *at, *end;
    const char *error;       /* static text; NULL as long as all is well */
    const uint8_t *error_at; /* where */
    bool fresh;              /* directly behind an opening bracket that was entered */
    bool spaced;             /* a note of the value that is being read */
    bool forgiving;          /* see json_forgive() */
    const char *spoiled;     /* why the value that is being read is ERR_TOO_BIG; NULL: only by its members' number */
};

void json_reader_init(struct json_reader *r, struct span text);

/* From here on a lone surrogate spoils the value that it stands in, which is then ERR_TOO_BIG as one nested too deep is,
 * and not the rest of the text: for lists, where one sender's cut-off emoji should not cost its neighbours. */
static inline void json_forgive(struct json_reader *r)
{
    r->forgiving = true;
}

/* Byte offset of the error, from the start of the text. */
static inline size_t json_offset(const struct json_reader *r)
{
    return (size_t)((r->error_at != NULL ? r->error_at : r->at) - r->start);
}

/* Fills `why` (may be NULL) with "byte N: TEXT" from the reader's error and returns `err`. */
enum err json_fault(const struct json_reader *r, enum err err, struct fault *why);

/* The type of the value at the reader, judged by its first byte and unchecked otherwise; skips white space
 * only. ERR_MALFORMED when no value can begin here. */
MUST_USE enum err json_peek(struct json_reader *r, enum json_type *ret_type);

/* Reads one value of any type. `ret` is filled on OK and on ERR_TOO_BIG (too deep). */
MUST_USE enum err json_read_value(struct json_reader *r, struct json_value *ret);

/* The same, and if the value is an object its members go to `members` in their order (their keys may
 * repeat); else `*ret_count` is 0 and the value's type tells. ERR_TOO_BIG when it has more than `max`
 * members (the first `max` are filled, *ret_count is max) or is too deep. */
MUST_USE enum err json_read_object(struct json_reader *r, struct json_member *members, size_t max,
                                   size_t *ret_count, struct json_value *ret);

/* Step into an array or object, then call json_next_* until ERR_NOT_FOUND, which also steps out. After
 * each OK exactly one value must be read or entered. ERR_UNSUPPORTED when the value is of another type;
 * the reader has then only skipped white space, and the value can still be read. */
MUST_USE enum err json_enter_array(struct json_reader *r);
MUST_USE enum err json_enter_object(struct json_reader *r);
MUST_USE enum err json_next_element(struct json_reader *r);
MUST_USE enum err json_next_member(struct json_reader *r, struct json_key *ret_key);

/* ERR_MALFORMED when anything but white space is left. */
MUST_USE enum err json_finish(struct json_reader *r);

/* One whole text: a value and nothing behind it. `ret` and `why` may be NULL. */
MUST_USE enum err json_check(struct span text, struct json_value *ret, struct fault *why);

/* One whole text that should be an object, with its members, as json_read_object(). */
MUST_USE enum err json_check_object(struct span text, struct json_member *members, size_t max,
                                    size_t *ret_count, struct json_value *ret, struct fault *why);

/* --- what the members say ------------------------------------------------------------------------- */

bool json_key_is(const struct json_key *key, const char *text);

/* The first member of that name, or NULL. */
const struct json_member *json_find(const struct json_member *members, size_t count, const char *name);

/* True when two keys are the same after unescaping; *ret_index (may be NULL) is the second one's place. */
bool json_repeated_key(const struct json_member *members, size_t count, size_t *ret_index);

/* The bytes between a string value's quotes, still escaped. */
static inline struct span json_raw_string(const struct json_value *v)
{
    return span_of(v->text.at + 1, v->text.len - 2);
}

/* Unescapes the inside of a checked string. `into` must have room for raw.len bytes (unescaping never
 * lengthens). Returns the length of the UTF-8 result, which may contain NUL. */
size_t json_unescape(struct span raw, uint8_t *into);

/* The text of a string value or key: the bytes as they stand when there is nothing to unescape, else a copy
 * in the arena. ERR_TOO_BIG when the arena is full. */
MUST_USE enum err json_decode_string(struct arena *a, const struct json_value *v, struct span *ret);
MUST_USE enum err json_decode_key(struct arena *a, const struct json_key *key, struct span *ret);

/* True when a string value's unescaped text is `text`. */
bool json_string_is(const struct json_value *v, const char *text);

/* --- numbers; all take a checked number token ------------------------------------------------------- */

/* Written without fraction and exponent. */
bool json_is_integer(struct span number);
/* The value, when it is a whole number (also written as 1.0 or 25e1) that fits exactly. */
MUST_USE bool json_int64(struct span number, int64_t *ret);
MUST_USE bool json_uint64(struct span number, uint64_t *ret);
/* The nearest double. False when it would be infinite. */
MUST_USE bool json_double(struct span number, double *ret);

/* --- writing ---------------------------------------------------------------------------------------- */

/* Appends `text` as a JSON string with quotes. Bytes that are not UTF-8 become U+FFFD, one per bad byte,
 * and are added to *replaced (may be NULL), so that what comes out is valid whatever went in.
 * ERR_TOO_BIG leaves `out` as it was. */
MUST_USE enum err json_append_string(struct bytes *out, struct span text);
MUST_USE enum err json_append_string_lossy(struct bytes *out, struct span text, uint64_t *replaced);

/* Appends a checked value without the white space between its tokens, which also makes it one line. */
MUST_USE enum err json_compact(struct bytes *out, struct span checked);
/* The same, one memcpy when the reader saw no white space in it. */
MUST_USE enum err json_append_compact(struct bytes *out, const struct json_value *v);

#endif
