/* api: names, paths and tokens. */
#include "lib/api/common.h"
#include "tests/unit/api/fixture.h"

TestSuite(api, .init = fixture_init, .fini = fixture_deinit);

Test(api, names_are_found)
{
    for (const struct api *const *a = api_all(); *a != NULL; a++) {
        cr_expect_eq(api_find(span_str((*a)->name)), *a);
        cr_expect_eq((*a)->neutral, (*a)->render != NULL, "%s", (*a)->name);
        cr_expect((*a)->codecs & API_CODEC_BIT((*a)->auto_codec), "%s", (*a)->name);
        cr_expect_leq((*a)->batch.max_events, (*a)->limits.batch_events, "%s", (*a)->name);
        cr_expect_leq((*a)->batch.max_bytes, (*a)->limits.batch_raw_bytes, "%s", (*a)->name);
        cr_expect_leq((*a)->limits.event_bytes, (*a)->limits.batch_raw_bytes, "%s", (*a)->name);
    }
    cr_expect_null(api_find(SPAN("nothing")));
    cr_expect_null(api_find(SPAN("")));
}

Test(api, every_name_of_a_reason_is_there)
{
    for (int i = 0; i < REJECT_REASONS; i++)
        cr_expect_not_null(api_reject_names[i]);
    for (int i = 0; i < DEAD_REASONS; i++)
        cr_expect_not_null(api_dead_names[i]);
}

static const char *routed(const char *method, const char *path)
{
    const struct api *api = NULL;
    const struct api_path *p = NULL;
    switch (api_route(span_str(method), span_str(path), &api, &p)) {
    case MATCH_NONE:
        return "none";
    case MATCH_METHOD:
        return "method";
    case MATCH_PATH:
        return api->name;
    }
    return "";
}

Test(api, neutral_path)
{
    cr_expect_str_eq(routed("POST", "/events"), "cloudevents");
    cr_expect_str_eq(routed("POST", "/events/"), "cloudevents");
    cr_expect_str_eq(routed("GET", "/events"), "method");
    cr_expect_str_eq(routed("POST", "/event"), "none");
    cr_expect_str_eq(routed("POST", "/eventss"), "none");
    cr_expect_str_eq(routed("POST", "/events//"), "none");
    cr_expect_str_eq(routed("POST", ""), "none");
    cr_expect_str_eq(routed("POST", "/"), "none");
}

static bool authorized(enum api_auth auth, const char *name, const char *value, const char *token)
{
    struct api_path path = {.method = "POST", .pattern = "/x", .auth = auth};
    const char *headers[] = {name, value, NULL};
    (void)fixture_request("POST", "/events", headers, "", 0, COND_STORED);
    return api_authorized(&path, &fix.request, span_str(token));
}

Test(api, tokens_as_each_vendor_presents_them)
{
    cr_expect(authorized(AUTH_NONE, NULL, NULL, "s3"));
    cr_expect(!authorized(AUTH_IMPOSSIBLE, "Authorization", "s3", "s3"));
    cr_expect(authorized(AUTH_BEARER, "authorization", "Bearer s3", "s3"));
    cr_expect(authorized(AUTH_BEARER, "Authorization", "bearer  s3 ", "s3"));
    cr_expect(!authorized(AUTH_BEARER, "Authorization", "Bearer s33", "s3"));
    cr_expect(!authorized(AUTH_BEARER, "Authorization", "Bearer s", "s3"));
    cr_expect(!authorized(AUTH_BEARER, "Authorization", "Bearer", "s3"));
    cr_expect(!authorized(AUTH_BEARER, "Authorization", "s3", "s3"));
    cr_expect(!authorized(AUTH_BEARER, NULL, NULL, "s3"));
    cr_expect(authorized(AUTH_HONEYCOMB, "X-Honeycomb-Team", "s3", "s3"));
    cr_expect(authorized(AUTH_HONEYCOMB, "X-Hny-Team", "s3", "s3"));
    cr_expect(!authorized(AUTH_HONEYCOMB, "Authorization", "s3", "s3"));
    cr_expect(
        authorized(AUTH_BASIC_SECRET, "Authorization", "Basic cGstbGYtYTpzMw==", "s3")); /* pk-lf-a:s3 */
    cr_expect(!authorized(AUTH_BASIC_SECRET, "Authorization", "Basic cGstbGYtYTpzMw==", "pk-lf-a"));
    cr_expect(!authorized(AUTH_BASIC_SECRET, "Authorization", "Basic !", "s3"));
    cr_expect(authorized(AUTH_BASIC_SECRET, "Authorization", "Bearer s3", "s3"));
    cr_expect(authorized(AUTH_BARE, "Authorization", "s3", "s3"));
    cr_expect(authorized(AUTH_APIKEY, "Authorization", "ApiKey s3", "s3"));
    cr_expect(!authorized(AUTH_APIKEY, "Authorization", "Bearer s3", "s3"));
}
