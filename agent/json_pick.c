/* json_pick: see json_pick.h. */
#include "agent/json_pick.h"

#include "lib/codec/json.h"

#include <stdlib.h>
#include <string.h>

#define MEMBERS_MAX 64

static struct span member(struct span object, struct span name)
{
    struct json_member members[MEMBERS_MAX];
    struct json_value value;
    size_t count = 0;
    if (object.at == NULL || json_check_object(object, members, MEMBERS_MAX, &count, &value, NULL) != OK)
        return (struct span){0};
    for (size_t i = 0; i < count; i++)
        if (span_equal(members[i].key.text, name))
            return members[i].value.text;
    return (struct span){0};
}

struct span pick(struct span object, const char *path)
{
    const char *dot;
    while ((dot = strchr(path, '.')) != NULL) {
        object = member(object, span_of(path, (size_t)(dot - path)));
        path = dot + 1;
    }
    return member(object, span_str(path));
}

uint64_t pick_u64(struct span object, const char *path)
{
    struct span text = pick(object, path);
    uint64_t n;
    return text.at != NULL && span_u64(text, &n) ? n : 0;
}

double pick_double(struct span object, const char *path)
{
    struct span text = pick(object, path);
    struct json_value value;
    double d;
    if (text.at == NULL || json_check(text, &value, NULL) != OK || value.type != JSON_NUMBER)
        return 0;
    return json_double(value.text, &d) ? d : 0;
}

bool pick_true(struct span object, const char *path)
{
    return span_is(pick(object, path), "true");
}

bool pick_string(struct span object, const char *path, char *into, size_t size)
{
    struct span text = pick(object, path);
    struct json_value value;
    into[0] = '\0';
    if (text.at == NULL || json_check(text, &value, NULL) != OK || value.type != JSON_STRING)
        return false;
    struct span raw = json_raw_string(&value);
    uint8_t *plain = must_alloc(raw.len + 1);
    size_t n = json_unescape(raw, plain);
    if (n >= size)
        n = size - 1;
    memcpy(into, plain, n);
    into[n] = '\0';
    free(plain);
    return true;
}

void pick_clean(char *text)
{
    for (uint8_t *at = (uint8_t *)text; *at != '\0'; at++) {
        if (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0)
            at[0] = at[1] = ' ';
        if (*at < 0x20 || *at == 0x7f)
            *at = ' ';
    }
}

struct span pick_next(struct span array, size_t *cursor)
{
    struct json_reader r;
    struct json_value value = {0};
    if (array.at == NULL)
        return (struct span){0};
    json_reader_init(&r, array);
    if (json_enter_array(&r) != OK)
        return (struct span){0};
    for (size_t i = 0; json_next_element(&r) == OK && json_read_value(&r, &value) == OK; i++)
        if (i == *cursor) {
            (*cursor)++;
            return value.text;
        }
    return (struct span){0};
}

struct span pick_member(struct span object, size_t index, struct span *ret_key)
{
    struct json_member members[MEMBERS_MAX];
    struct json_value value;
    size_t count = 0;
    if (object.at == NULL || json_check_object(object, members, MEMBERS_MAX, &count, &value, NULL) != OK || index >= count)
        return (struct span){0};
    *ret_key = members[index].key.text;
    return members[index].value.text;
}
