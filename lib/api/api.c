/* api: the list of apis, and which of them a request's path belongs to. Step 3 of the straight line begins
 * here. */
#include "lib/api/api.h"

#include "lib/api/common.h"
#include "lib/codec/base64.h"

const char *const api_reject_names[REJECT_REASONS] = {
    [REJECT_MALFORMED] = "malformed",
    [REJECT_TOO_LARGE] = "too_large",
    [REJECT_TRUNCATED] = "truncated",
    [REJECT_KERNEL_DROPPED] = "kernel_dropped",
    [REJECT_FULL] = "full",
    [REJECT_NO_ROUTE] = "no_route",
    [REJECT_UNRENDERABLE] = "unrenderable",
    [REJECT_UNAUTHORIZED] = "unauthorized",
    [REJECT_BAD_COMPRESSION] = "bad_compression",
    [REJECT_UNSUPPORTED_SIGNAL] = "unsupported_signal",
};

const char *const api_dead_names[DEAD_REASONS] = {
    [DEAD_REFUSED] = "refused",
    [DEAD_TOO_LARGE] = "too_large",
    [DEAD_GAVE_UP] = "gave_up",
    [DEAD_BAD_RESPONSE] = "bad_response",
    [DEAD_NO_RESULT] = "no_result",
    [DEAD_LANGFUSE_LEGACY_REMOVED] = "langfuse_legacy_removed",
    [DEAD_COUNT_MISMATCH] = "count_mismatch",
    [DEAD_INVALID] = "invalid",
};

const struct api *const *api_all(void)
{
    static const struct api *const all[] = {&cloudevents_api,  &honeycomb_api,  &langfuse_api,
                                            &launchdarkly_api, &monk_api,       &segops_api,
                                            &otlp_api,         &plain_http_api, NULL};
    return all;
}

const struct api *api_find(struct span name)
{
    for (const struct api *const *a = api_all(); *a != NULL; a++)
        if (span_is(name, (*a)->name))
            return *a;
    return NULL;
}

const struct span *api_option(const struct api_settings *s, const char *name)
{
    size_t own = s->api == NULL ? 0 : strlen(s->api->name);
    for (unsigned i = 0; i < s->option_count; i++) {
        const char *given = s->options[i].name;
        if (own > 0 && strncmp(given, s->api->name, own) == 0 && given[own] == '.')
            given += own + 1;
        if (strcmp(given, name) == 0)
            return &s->options[i].value;
    }
    return NULL;
}

bool api_reject(struct api_exchange *x, uint32_t index, enum api_reject reason, const char *text)
{
    if (x->again)
        return true;
    if (x->rejection_count == x->rejection_room) {
        unsigned room = x->rejection_room == 0 ? 8 : x->rejection_room * 2;
        struct api_rejection *bigger = arena_alloc(api_keep(x), room * sizeof *bigger);
        if (bigger == NULL)
            return false;
        if (x->rejection_count > 0)
            memcpy(bigger, x->rejections, x->rejection_count * sizeof *bigger);
        x->rejections = bigger;
        x->rejection_room = room;
    }
    struct span copy = arena_copy(api_keep(x), span_str(text));
    if (copy.at == NULL)
        return false;
    x->rejections[x->rejection_count++] =
        (struct api_rejection){.index = index, .reason = reason, .text = copy};
    return true;
}

/* --- paths -------------------------------------------------------------------------------------- */

/* Segment by segment; "*" is one that is not empty, "**" the rest, which may be empty. */
static bool pattern_matches(const char *pattern, struct span path)
{
    const uint8_t *at = path.at, *end = path.at + path.len;
    while (*pattern == '/') {
        pattern++;
        if (pattern[0] == '*' && pattern[1] == '*')
            return at < end && *at == '/';
        if (at == end || *at != '/')
            return false;
        at++;
        if (*pattern == '*') {
            const uint8_t *from = at;
            while (at < end && *at != '/')
                at++;
            if (at == from)
                return false;
            pattern++;
            continue;
        }
        while (*pattern != '\0' && *pattern != '/') {
            if (at == end || *at != (uint8_t)*pattern)
                return false;
            at++;
            pattern++;
        }
    }
    if (at < end && *at == '/')
        at++;
    return at == end;
}

enum api_match api_route(struct span method, struct span path, const struct api **ret_api,
                         const struct api_path **ret_path)
{
    enum api_match match = MATCH_NONE;
    for (const struct api *const *a = api_all(); *a != NULL; a++) {
        for (unsigned i = 0; i < (*a)->path_count; i++) {
            const struct api_path *p = &(*a)->paths[i];
            bool any = p->method[0] == '*';
            if ((any && match != MATCH_NONE) || !pattern_matches(p->pattern, path))
                continue;
            bool taken = any || span_is(method, p->method);
            if (!taken && match != MATCH_NONE)
                continue;
            *ret_api = *a;
            *ret_path = p;
            if (taken)
                return MATCH_PATH;
            match = MATCH_METHOD;
        }
    }
    return match;
}

/* --- who may ------------------------------------------------------------------------------------ */

static bool same_in_constant_time(struct span a, struct span b)
{
    uint8_t differ = a.len != b.len;
    for (size_t i = 0; i < b.len; i++)
        differ |= (uint8_t)(b.at[i] ^ (a.len == 0 ? 0 : a.at[i % a.len]));
    return differ == 0;
}

/* "SCHEME TOKEN": the token, or nothing. */
static bool scheme_token(struct span value, struct span scheme, struct span *ret)
{
    if (value.len <= scheme.len || !span_equal_nocase(span_of(value.at, scheme.len), scheme) ||
        value.at[scheme.len] != ' ')
        return false;
    *ret = span_trim(span_of(value.at + scheme.len, value.len - scheme.len));
    return true;
}

static bool basic_secret_is(struct span credentials, struct span token)
{
    uint8_t text[1024];
    size_t len;
    if (credentials.len > sizeof text || !base64_decode(credentials, text, &len))
        return false;
    const uint8_t *colon = memchr(text, ':', len);
    if (colon == NULL)
        return false;
    size_t before = (size_t)(colon + 1 - text);
    return same_in_constant_time(span_of(colon + 1, len - before), token);
}

static struct span header(const struct api_request *r, const char *name)
{
    return r->header == NULL ? (struct span){0} : span_trim(r->header(r->header_ctx, name));
}

bool api_authorized(const struct api_path *path, const struct api_request *request, struct span token)
{
    struct span given = header(request, "Authorization");
    switch (path->auth) {
    case AUTH_NONE:
        return true;
    case AUTH_IMPOSSIBLE:
        return false;
    case AUTH_BEARER:
        return scheme_token(given, SPAN("Bearer"), &given) && same_in_constant_time(given, token);
    case AUTH_HONEYCOMB:
        given = header(request, "X-Honeycomb-Team");
        if (given.at == NULL)
            given = header(request, "X-Hny-Team");
        return same_in_constant_time(given, token);
    case AUTH_BASIC_SECRET:
        if (scheme_token(given, SPAN("Basic"), &given))
            return basic_secret_is(given, token);
        return scheme_token(given, SPAN("Bearer"), &given) && same_in_constant_time(given, token);
    case AUTH_BARE:
        return same_in_constant_time(given, token);
    case AUTH_APIKEY:
        return scheme_token(given, SPAN("ApiKey"), &given) && same_in_constant_time(given, token);
    }
    return false;
}
