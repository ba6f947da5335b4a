/* json: the reader. See json.h for what it promises; json_text.c reads strings and numbers that were
 * checked here, json_write.c writes.
 *
 * How it works. Every scan_* function takes the place where its token begins and returns the place behind
 * it, or NULL with the error noted in the reader. Strings dominate the time, so scan_string() is inlined
 * wherever a string can stand and spends its time in json_run(), sixteen bytes a step; only escapes,
 * characters beyond ASCII and errors leave that loop. Numbers and literals are short. Nested containers are
 * one loop with an explicit stack of opening brackets, never recursion. */
#include "lib/codec/json.h"

#include "lib/base/hex.h"
#include "lib/codec/json_run.h"
#include "lib/codec/utf8.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))

static NOINLINE const uint8_t *broken(struct json_reader *r, const uint8_t *at, const char *text)
{
    if (r->error == NULL) {
        r->error = text;
        r->error_at = at;
    }
    return NULL;
}

void json_reader_init(struct json_reader *r, struct span text)
{
    static const uint8_t nothing[1];
    const uint8_t *at = text.len == 0 ? nothing : text.at;
    *r = (struct json_reader){.start = at, .at = at, .end = at + text.len};
}

enum err json_fault(const struct json_reader *r, enum err err, struct fault *why)
{
    const char *text = r->error;
    if (text == NULL)
        text = r->spoiled != NULL ? r->spoiled : "too many members";
    return fault_set(why, err, "byte %zu: %s", json_offset(r), text);
}

static ALWAYS_INLINE bool is_space(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static NOINLINE const uint8_t *skip_spaces(struct json_reader *r, const uint8_t *at)
{
    const uint8_t *from = at;
    while (at < r->end && is_space(*at))
        at++;
    if (at > from)
        r->spaced = true;
    return at;
}

/* Compact text, the usual case, costs one comparison. May return the end. */
static ALWAYS_INLINE const uint8_t *skip_space(struct json_reader *r, const uint8_t *at)
{
    if (__builtin_expect(at<r->end && * at> ' ', 1))
        return at;
    return skip_spaces(r, at);
}

/* Whether the next token is the byte `c`; moves to it. */
static ALWAYS_INLINE bool next_is(struct json_reader *r, const uint8_t **at, uint8_t c)
{
    if (__builtin_expect(*at < r->end && **at == c, 1))
        return true;
    *at = skip_spaces(r, *at);
    return *at < r->end && **at == c;
}

/* The four digits at `at`, or -1. */
static int32_t hex4(const uint8_t *at, const uint8_t *end)
{
    int32_t code = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0)
            return -1;
        code = code << 4 | digit;
    }
    return code;
}

/* `at` is behind the "\u" of a surrogate that stands alone. */
static const uint8_t *lone_surrogate(struct json_reader *r, const uint8_t *at, const char *text)
{
    if (!r->forgiving)
        return broken(r, at, text);
    r->spoiled = text;
    return at + 4;
}

/* `at` is behind "\u". A high surrogate needs its low one, as an escape too; a low one alone is an error. */
static const uint8_t *scan_unicode_escape(struct json_reader *r, const uint8_t *at)
{
    int32_t code = hex4(at, r->end);
    if (code < 0)
        return broken(r, at, "\\u needs four hexadecimal digits");
    if (code < 0xd800 || code > 0xdfff)
        return at + 4;
    if (code > 0xdbff)
        return lone_surrogate(r, at, "low surrogate without a high one before it");
    if (r->end - at < 10 || at[4] != '\\' || at[5] != 'u')
        return lone_surrogate(r, at, "high surrogate without a low one behind it");
    code = hex4(at + 6, r->end);
    if (code < 0xdc00 || code > 0xdfff)
        return lone_surrogate(r, at, "high surrogate without a low one behind it");
    return at + 10;
}

/* What json_run() stopped at inside a string, other than the closing quote. */
static NOINLINE const uint8_t *scan_special(struct json_reader *r, const uint8_t *at)
{
    if (at >= r->end)
        return broken(r, at, "text ends inside a string");
    if (*at >= 0x7f) {
        /* Text in one script comes in runs: stay here while it lasts. */
        while (at < r->end && *at >= 0x7f) {
            size_t n = utf8_length(at, r->end);
            if (n == 0)
                return broken(r, at, "invalid UTF-8");
            at += n;
        }
        return at;
    }
    if (*at != '\\')
        return broken(r, at, "control character in a string");
    if (r->end - at < 2)
        return broken(r, r->end, "text ends inside a string");
    switch (at[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return at + 2;
    case 'u':
        return scan_unicode_escape(r, at + 2);
    default:
        return broken(r, at, "unknown escape");
    }
}

/* `at` is behind the opening quote; returns the place behind the closing one. */
static ALWAYS_INLINE const uint8_t *scan_string(struct json_reader *r, const uint8_t *at, bool *odd)
{
    for (;;) {
        at = json_run(at, r->end);
        if (__builtin_expect(at < r->end && *at == '"', 1))
            return at + 1;
        *odd = true;
        at = scan_special(r, at);
        if (at == NULL)
            return NULL;
    }
}

static ALWAYS_INLINE bool is_digit(const uint8_t *at, const uint8_t *end)
{
    return at < end && (uint8_t)(*at - '0') <= 9;
}

static const uint8_t *scan_number(struct json_reader *r, const uint8_t *at)
{
    const uint8_t *end = r->end;
    if (*at == '-')
        at++;
    if (!is_digit(at, end))
        return broken(r, at, "number without digits");
    if (*at++ == '0') {
        if (is_digit(at, end))
            return broken(r, at, "number with a leading zero");
    } else {
        while (is_digit(at, end))
            at++;
    }
    if (at < end && *at == '.') {
        at++;
        if (!is_digit(at, end))
            return broken(r, at, "no digit behind the decimal point");
        while (is_digit(at, end))
            at++;
    }
    if (at < end && (*at | 0x20) == 'e') {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        if (!is_digit(at, end))
            return broken(r, at, "exponent without digits");
        while (is_digit(at, end))
            at++;
    }
    return at;
}

static const uint8_t *scan_literal(struct json_reader *r, const uint8_t *at, const char *word, size_t len)
{
    if ((size_t)(r->end - at) < len || memcmp(at, word, len) != 0)
        return broken(r, at, "not a JSON value");
    return at + len;
}

/* Everything but arrays and objects. */
static ALWAYS_INLINE const uint8_t *scan_scalar(struct json_reader *r, const uint8_t *at, bool *odd)
{
    if (*at == '"')
        return scan_string(r, at + 1, odd);
    switch (*at) {
    case 't':
        return scan_literal(r, at, "true", 4);
    case 'f':
        return scan_literal(r, at, "false", 5);
    case 'n':
        return scan_literal(r, at, "null", 4);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return scan_number(r, at);
    default:
        return broken(r, at, "not a JSON value");
    }
}

static bool has_backslash(struct span text)
{
    return memchr(text.at, '\\', text.len) != NULL;
}

/* A member's name and the colon behind it, at a place that must have one; returns the value's place. */
static ALWAYS_INLINE const uint8_t *scan_key(struct json_reader *r, const uint8_t *at, struct json_key *ret)
{
    if (at >= r->end || *at != '"')
        return broken(r, at, at >= r->end ? "text ends inside an object" : "expected a member name");
    bool odd = false;
    ret->text.at = at + 1;
    at = scan_string(r, at + 1, &odd);
    if (at == NULL)
        return NULL;
    ret->text.len = (size_t)(at - 1 - ret->text.at);
    ret->escaped = odd && has_backslash(ret->text);
    if (!next_is(r, &at, ':'))
        return broken(r, at, "expected ':' behind a member name");
    at = skip_space(r, at + 1);
    if (at >= r->end)
        return broken(r, at, "text ends inside an object");
    return at;
}

/* `at` is an opening bracket; returns the place behind its closing one. `above` is how many containers of
 * the value that is being read are open around it. One loop on purpose: its labels are the grammar. */
static const uint8_t *scan_container(struct json_reader *r, const uint8_t *at, unsigned above)
{
    uint8_t open[JSON_DEPTH_READABLE];
    unsigned depth = 0;
    struct json_key key;
    bool odd; /* of no interest in here */

enter:
    if (depth + above >= JSON_DEPTH_READABLE)
        return broken(r, at, "nested too deep to be read");
    open[depth++] = *at;
    if (depth + above > JSON_DEPTH_MAX)
        r->spoiled = "nested deeper than 64 levels";
    at = skip_space(r, at + 1);
    if (at >= r->end)
        goto unfinished;
    if (open[depth - 1] == '{') {
        if (*at == '}')
            goto leave;
        goto member;
    }
    if (*at == ']')
        goto leave;
    goto value;

member:
    at = scan_key(r, at, &key);
    if (at == NULL)
        return NULL;
value:
    if (*at == '{' || *at == '[')
        goto enter;
    at = scan_scalar(r, at, &odd);
    if (at == NULL)
        return NULL;
behind:
    if (next_is(r, &at, ',')) {
        at = skip_space(r, at + 1);
        if (open[depth - 1] == '{')
            goto member;
        if (at >= r->end)
            goto unfinished;
        goto value;
    }
    if (at >= r->end)
        goto unfinished;
    if (*at != open[depth - 1] + 2) /* in ASCII both closing brackets stand two behind the opening ones */
        return broken(r, at, open[depth - 1] == '{' ? "expected ',' or '}'" : "expected ',' or ']'");
leave:
    at++;
    if (--depth > 0)
        goto behind;
    return at;

unfinished:
    return broken(r, at, open[depth - 1] == '{' ? "text ends inside an object" : "text ends inside an array");
}

/* Reads the value at `at`, which is before the end, `above` levels inside the value that was asked for. */
static ALWAYS_INLINE const uint8_t *scan_value(struct json_reader *r, const uint8_t *at, unsigned above,
                                               struct json_value *ret)
{
    const uint8_t *from = at;
    bool odd = false;
    ret->type = json_type_of(*from);
    ret->spaced = false;
    if (ret->type == JSON_OBJECT || ret->type == JSON_ARRAY) {
        bool around = r->spaced;
        r->spaced = false;
        at = scan_container(r, at, above);
        ret->spaced = r->spaced;
        r->spaced |= around;
    } else {
        at = scan_scalar(r, at, &odd);
    }
    if (at == NULL)
        return NULL;
    ret->text = span_of(from, (size_t)(at - from));
    ret->odd = odd;
    ret->escaped = odd && has_backslash(ret->text);
    return at;
}

/* Moves to the value that must be next. */
static enum err to_value(struct json_reader *r)
{
    if (r->error != NULL)
        return ERR_MALFORMED;
    r->at = skip_space(r, r->at);
    r->spaced = false;
    r->spoiled = NULL;
    if (r->at >= r->end) {
        broken(r, r->at, "text ends where a value is expected");
        return ERR_MALFORMED;
    }
    r->fresh = false;
    return OK;
}

static enum err refused(struct json_reader *r, const uint8_t *at)
{
    /* Noted for the caller's message, but the reader can go on: error stays unset. */
    r->error_at = at;
    return ERR_TOO_BIG;
}

enum err json_peek(struct json_reader *r, enum json_type *ret_type)
{
    bool fresh = r->fresh;
    if (to_value(r) != OK)
        return ERR_MALFORMED;
    r->fresh = fresh;
    if (strchr("{[\"tfn-0123456789", *r->at) == NULL || *r->at == '\0') {
        broken(r, r->at, "not a JSON value");
        return ERR_MALFORMED;
    }
    *ret_type = json_type_of(*r->at);
    return OK;
}

enum err json_read_value(struct json_reader *r, struct json_value *ret)
{
    if (to_value(r) != OK)
        return ERR_MALFORMED;
    const uint8_t *from = r->at;
    const uint8_t *at = scan_value(r, r->at, 0, ret);
    if (at == NULL)
        return ERR_MALFORMED;
    r->at = at;
    return r->spoiled != NULL ? refused(r, from) : OK;
}

/* The members of the object that opens at `at`; returns the place behind its closing bracket. *seen counts
 * them all, also those that found no room. */
static const uint8_t *scan_members(struct json_reader *r, const uint8_t *at, struct json_member *members,
                                   size_t max, size_t *seen)
{
    struct json_member spare;
    size_t n = 0;
    at = skip_space(r, at + 1);
    if (at < r->end && *at == '}') {
        *seen = 0;
        return at + 1;
    }
    for (;;) {
        struct json_member *m = n < max ? &members[n] : &spare;
        at = scan_key(r, at, &m->key);
        if (at == NULL)
            return NULL;
        at = scan_value(r, at, 1, &m->value);
        if (at == NULL)
            return NULL;
        n++;
        if (!next_is(r, &at, ','))
            break;
        at = skip_space(r, at + 1);
    }
    if (at >= r->end)
        return broken(r, at, "text ends inside an object");
    if (*at != '}')
        return broken(r, at, "expected ',' or '}'");
    *seen = n;
    return at + 1;
}

enum err json_read_object(struct json_reader *r, struct json_member *members, size_t max, size_t *ret_count,
                          struct json_value *ret)
{
    if (to_value(r) != OK)
        return ERR_MALFORMED;
    if (*r->at != '{') {
        *ret_count = 0;
        return json_read_value(r, ret);
    }
    const uint8_t *from = r->at;
    size_t seen = 0;
    const uint8_t *at = scan_members(r, from, members, max, &seen);
    if (at == NULL)
        return ERR_MALFORMED;
    r->at = at;
    *ret = (struct json_value){
        .text = span_of(from, (size_t)(at - from)), .type = JSON_OBJECT, .spaced = r->spaced};
    *ret_count = seen < max ? seen : max;
    return r->spoiled != NULL || seen > max ? refused(r, from) : OK;
}

static enum err enter(struct json_reader *r, uint8_t bracket)
{
    bool fresh = r->fresh;
    if (to_value(r) != OK)
        return ERR_MALFORMED;
    if (*r->at != bracket) {
        r->fresh = fresh;
        return ERR_UNSUPPORTED;
    }
    r->at++;
    r->fresh = true;
    return OK;
}

enum err json_enter_array(struct json_reader *r)
{
    return enter(r, '[');
}

enum err json_enter_object(struct json_reader *r)
{
    return enter(r, '{');
}

/* Moves over a comma to the next element or member; ERR_NOT_FOUND behind the closing bracket. */
static enum err next(struct json_reader *r, uint8_t closing)
{
    if (r->error != NULL)
        return ERR_MALFORMED;
    const uint8_t *at = skip_space(r, r->at);
    bool fresh = r->fresh;
    r->fresh = false;
    if (at >= r->end) {
        broken(r, at, closing == ']' ? "text ends inside an array" : "text ends inside an object");
        return ERR_MALFORMED;
    }
    if (*at == closing) {
        r->at = at + 1;
        return ERR_NOT_FOUND;
    }
    if (!fresh) {
        if (*at != ',') {
            broken(r, at, closing == ']' ? "expected ',' or ']'" : "expected ',' or '}'");
            return ERR_MALFORMED;
        }
        at = skip_space(r, at + 1);
    }
    r->at = at;
    return OK;
}

enum err json_next_element(struct json_reader *r)
{
    return next(r, ']');
}

enum err json_next_member(struct json_reader *r, struct json_key *ret_key)
{
    enum err err = next(r, '}');
    if (err != OK)
        return err;
    const uint8_t *at = scan_key(r, r->at, ret_key);
    if (at == NULL)
        return ERR_MALFORMED;
    r->at = at;
    return OK;
}

enum err json_finish(struct json_reader *r)
{
    if (r->error != NULL)
        return ERR_MALFORMED;
    r->at = skip_space(r, r->at);
    if (r->at == r->end)
        return OK;
    broken(r, r->at, "something follows the value");
    return ERR_MALFORMED;
}

static enum err checked(struct json_reader *r, enum err err, struct fault *why)
{
    /* Broken text is told before text that is merely too large for us. */
    if (err != ERR_MALFORMED && json_finish(r) != OK)
        err = ERR_MALFORMED;
    return err == OK ? OK : json_fault(r, err, why);
}

enum err json_check(struct span text, struct json_value *ret, struct fault *why)
{
    struct json_reader r;
    struct json_value value;
    json_reader_init(&r, text);
    enum err err = checked(&r, json_read_value(&r, &value), why);
    if (err == OK && ret != NULL)
        *ret = value;
    return err;
}

enum err json_check_object(struct span text, struct json_member *members, size_t max, size_t *ret_count,
                           struct json_value *ret, struct fault *why)
{
    struct json_reader r;
    json_reader_init(&r, text);
    return checked(&r, json_read_object(&r, members, max, ret_count, ret), why);
}
