/* fuzz_json: any bytes as a JSON text. All ways of reading it agree, what is compacted or written again is
 * valid, and nothing is read outside the text (the sanitizers see to that). */
#include "lib/base/ensure.h"
#include "lib/codec/json.h"
#include "lib/codec/utf8.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEMBERS_MAX = 300 };

static void check_string(struct span raw, bool escaped);

/* Steps through one level and reads what is inside whole. */
static enum err step_through(struct span text, bool forgiving)
{
    struct json_reader r;
    struct json_value v;
    struct json_key key;
    json_reader_init(&r, text);
    if (forgiving)
        json_forgive(&r);
    enum err err = json_enter_array(&r);
    if (err == OK) {
        while ((err = json_next_element(&r)) == OK)
            if ((err = json_read_value(&r, &v)) != OK && err != ERR_TOO_BIG)
                break;
    } else if (err == ERR_UNSUPPORTED && (err = json_enter_object(&r)) == OK) {
        while ((err = json_next_member(&r, &key)) == OK) {
            check_string(key.text, key.escaped); /* also what a forgiving reader let pass */
            if ((err = json_read_value(&r, &v)) != OK && err != ERR_TOO_BIG)
                break;
            if (v.type == JSON_STRING)
                check_string(json_raw_string(&v), v.escaped);
        }
    } else if (err == ERR_UNSUPPORTED) {
        err = json_read_value(&r, &v);
        return err == OK ? json_finish(&r) : err;
    }
    return err == ERR_NOT_FOUND ? json_finish(&r) : err;
}

static void check_string(struct span raw, bool escaped)
{
    uint8_t *text = malloc(raw.len + 1);
    size_t n = json_unescape(raw, text);
    ensure(n <= raw.len);
    ensure(escaped || span_equal(raw, span_of(text, n)));
    ensure(utf8_valid(span_of(text, n)));
    struct bytes again;
    uint64_t replaced = 0;
    struct json_value v;
    bytes_init(&again, raw.len * 6 + 64);
    ensure(json_append_string_lossy(&again, span_of(text, n), &replaced) == OK);
    ensure(replaced == 0);
    ensure(json_check(bytes_span(&again), &v, NULL) == OK);
    uint8_t *back = malloc(again.len);
    size_t m = json_unescape(json_raw_string(&v), back);
    ensure(span_equal(span_of(text, n), span_of(back, m)));
    free(back);
    bytes_deinit(&again);
    free(text);
}

static void check_number(struct span text)
{
    int64_t i;
    uint64_t u;
    double d;
    bool whole = json_int64(text, &i), positive = json_uint64(text, &u);
    if (whole && i >= 0)
        ensure(positive && u == (uint64_t)i);
    if (json_double(text, &d) && whole)
        ensure(d == (double)i);
    if (json_is_integer(text) && text.len < 19)
        ensure(whole);
}

static void check_members(struct json_member *members, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        check_string(members[i].key.text, members[i].key.escaped);
        if (members[i].value.type == JSON_STRING)
            check_string(json_raw_string(&members[i].value), members[i].value.escaped);
        if (members[i].value.type == JSON_NUMBER)
            check_number(members[i].value.text);
    }
    size_t index;
    if (json_repeated_key(members, count, &index))
        ensure(index > 0 && index < count);
}

static void check_compact(const struct json_value *v)
{
    struct bytes packed;
    struct json_value again;
    bytes_init(&packed, v->text.len + 1);
    ensure(json_compact(&packed, v->text) == OK);
    ensure(packed.len <= v->text.len);
    ensure(v->spaced || packed.len == v->text.len);
    ensure(json_check(bytes_span(&packed), &again, NULL) == OK);
    ensure(!again.spaced && again.type == v->type);
    ensure(memchr(packed.at, '\n', packed.len) == NULL);
    bytes_deinit(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct json_member members[MEMBERS_MAX];
    struct span text = span_of(data, size);
    struct json_value v, w;
    struct fault why;
    size_t count = 0;
    enum err err = json_check(text, &v, &why);
    ensure(err == OK || err == ERR_TOO_BIG || err == ERR_MALFORMED);
    enum err as_object = json_check_object(text, members, MEMBERS_MAX, &count, &w, &why);
    ensure(as_object == err || (err == OK && as_object == ERR_TOO_BIG && count == MEMBERS_MAX));
    /* Stepping in counts depth from one level further down, so that only this may differ. */
    enum err stepped = step_through(text, false), forgiven = step_through(text, true);
    ensure((stepped == ERR_MALFORMED) == (err == ERR_MALFORMED) || err == ERR_MALFORMED);
    ensure(forgiven != ERR_MALFORMED || stepped == ERR_MALFORMED);
    if (err == OK) {
        ensure(span_equal(v.text, w.text) && v.type == w.type && v.spaced == w.spaced);
        check_members(members, count);
        check_compact(&v);
    }
    struct bytes out;
    bytes_init(&out, size * 6 + 16);
    ensure(json_append_string(&out, text) == OK);
    ensure(json_check(bytes_span(&out), NULL, NULL) == OK);
    bytes_deinit(&out);
    return 0;
}
