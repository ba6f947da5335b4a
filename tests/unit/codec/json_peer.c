/* json_peer: see json_peer.h. */
#include "json_peer.h"

#include <jansson.h>

enum { FLAGS = JSON_DECODE_ANY | JSON_ALLOW_NUL };

static json_t *load(struct span text, json_error_t *error)
{
    return json_loadb((const char *)text.at, text.len, FLAGS, error);
}

enum json_peer_says json_peer_check(struct span text, const char **ret_text)
{
    static json_error_t error;
    json_t *tree = load(text, &error);
    if (tree != NULL) {
        json_decref(tree);
        return PEER_VALID;
    }
    if (ret_text != NULL)
        *ret_text = error.text;
    enum json_error_code code = json_error_code(&error);
    bool own_limit = code == json_error_numeric_overflow || code == json_error_null_byte_in_key;
    return own_limit ? PEER_CANNOT_TELL : PEER_INVALID;
}

bool json_peer_same(struct span a, struct span b)
{
    json_t *left = load(a, NULL), *right = load(b, NULL);
    bool same = left != NULL && right != NULL && json_equal(left, right);
    json_decref(left);
    json_decref(right);
    return same;
}

bool json_peer_is_string(struct span text, struct span contents)
{
    json_t *tree = load(text, NULL);
    bool same = json_is_string(tree) &&
                span_equal(span_of(json_string_value(tree), json_string_length(tree)), contents);
    json_decref(tree);
    return same;
}
