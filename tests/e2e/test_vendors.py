"""What each vendor's page says, tried by hand on a whole agent: requests as its clients write them, and an upstream
that is a few lines of Python, so that nothing of ours judges ourselves."""
import base64
import gzip
import http.server
import json
import pathlib
import re
import shutil
import signal
import ssl
import threading
import types
import zlib

import pytest
from harness import PENSTOCK, Process, event, needs_root, run, until

OTEL = "/api/public/otel/v1/traces"
SPANS = json.dumps({"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {"name": "s"}, "spans": [
    {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "name": "n" * 3000}]}]}]}).encode()


class Upstream:
    """Answers every request with what answer(request) gives: status, or (status, body), or (status, body, headers)."""

    def __init__(self, answer):
        self.requests, upstream = [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = types.SimpleNamespace(command=self.command, path=self.path, headers=self.headers, body=body)
                upstream.requests.append(request)
                said = answer(request)
                said = said if isinstance(said, tuple) else (said,)
                status, body, headers = said + ("", {})[len(said) - 1:]
                body = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_OPTIONS = serve

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def of(self, method):
        return [r for r in self.requests if r.command == method]


@pytest.fixture
def upstream():
    made = []

    def make(answer):
        made.append(Upstream(answer))
        return made[-1]

    yield make
    for u in made:
        u.close()


CREDENTIALS = {"honeycomb": {"api_key": "ours"}, "langfuse": {"public_key": "pk-ours", "secret_key": "sk-ours"},
               "monk": {"api_key": "ours"}, "segops": {"api_key": "ours"},
               "launchdarkly": {"access_token": "ours", "sdk_key": "sdk-ours"}}


def output(upstream, type_, path="", **more):
    out = {"type": type_, "endpoint": upstream.url + path, "batch": {"max_wait": "50ms"},
           "retry": {"initial": "50ms", "max": "1s"}, **more}
    if type_ in CREDENTIALS:
        out["credentials"] = CREDENTIALS[type_]
    if type_ == "launchdarkly":
        out["partition"] = "shop/production"
    return out


# --- all ------------------------------------------------------------------------------------------------------

def test_answers_come_uncompressed(world, upstream):
    """Whoever compresses unless told otherwise may not turn delivered events into dead letters."""
    def answer(request):
        results = json.dumps([{"status": 202}]).encode()
        if request.headers["Accept-Encoding"] == "identity":
            return 200, results
        return 200, gzip.compress(results), {"Content-Encoding": "gzip"}

    up = upstream(answer)
    agent = world.agent({"up": output(up, "honeycomb", partition="d")})
    assert agent.post(event(1)).status == 202
    agent.settled()
    assert len(up.requests) == 1 and agent.ledger("up")["delivered"] == 1


# --- Honeycomb ------------------------------------------------------------------------------------------------

KEY = {"id": "a", "type": "ingest", "api_key_access": {"events": True}, "team": {"slug": "acme"}, "environment": {"slug": "prod"}}


def test_honeycomb_auth_is_asked_of_the_service_with_our_key_and_kept(world, upstream):
    up = upstream(lambda r: (200, KEY, {"Content-Type": "application/json"}))
    agent = world.agent({"up": output(up, "honeycomb")})
    for _ in range(3):
        reply = agent.request("GET", "/1/auth", headers={"X-Honeycomb-Team": "theirs"})
        assert reply.status == 200 and reply.json() == KEY
        assert reply.headers["content-type"] == "application/json"
    assert [(r.command, r.path, r.headers["X-Honeycomb-Team"]) for r in up.requests] == [("GET", "/1/auth", "ours")]


@pytest.mark.parametrize("status", [401, 404, 500, 302])
def test_honeycomb_auth_is_never_the_end_of_a_client(world, upstream, status):
    up = upstream(lambda r: (status, "{}"))
    agent = world.agent({"up": output(up, "honeycomb")})
    reply = agent.request("GET", "/1/auth", headers={"X-Honeycomb-Team": "theirs"})
    assert reply.status == 200
    assert {"id", "type", "api_key_access", "environment", "team"} <= set(reply.json())
    assert set(reply.json()["team"]) == set(reply.json()["environment"]) == {"name", "slug"}


def test_honeycomb_auth_without_an_upstream(world, upstream):
    up = upstream(lambda r: 200)
    up.close()
    agent = world.agent({"up": output(up, "honeycomb")})
    assert agent.request("GET", "/1/auth").status == 200


# --- Langfuse -------------------------------------------------------------------------------------------------

def test_langfuse_otel_goes_up_as_gzip(world, upstream):
    up = upstream(lambda r: (200, "{}"))
    agent = world.agent({"up": output(up, "langfuse")})
    deflated, zipped = zlib.compress(SPANS), gzip.compress(SPANS)
    for n, (encoding, body) in enumerate([(None, SPANS), ("gzip", zipped), ("deflate", deflated)]):
        reply = agent.request("POST", OTEL, body, {"Content-Type": "application/json", "Content-Encoding": encoding,
                                                   "x-langfuse-sdk-name": "python", "x-langfuse-public-key": "pk-theirs"})
        assert reply.status == 200 and reply.json() == {}, (encoding, reply)
        assert reply.headers["content-type"] == "application/json"
        agent.settled()
        sent = up.requests[n]
        assert sent.headers["Content-Encoding"] == "gzip", encoding
        assert gzip.decompress(sent.body) == SPANS
        assert sent.headers["x-langfuse-sdk-name"] == "python"
        assert sent.headers.get_all("x-langfuse-public-key") == ["pk-ours"]
    assert up.requests[1].body == zipped  # what came compressed is not compressed anew


def test_langfuse_otel_uncompressed_if_so_configured(world, upstream):
    up = upstream(lambda r: (200, "{}"))
    agent = world.agent({"up": output(up, "langfuse", compression="none")})
    assert agent.request("POST", OTEL, SPANS, {"Content-Type": "application/json"}).status == 200
    agent.settled()
    assert up.requests[0].body == SPANS and up.requests[0].headers["Content-Encoding"] is None


def test_langfuse_ingestion_is_never_compressed(world, upstream):
    def answer(r):
        ids = [e["id"] for e in json.loads(r.body)["batch"]]
        return 207, {"successes": [{"id": i, "status": 201} for i in ids], "errors": []}
    up = upstream(answer)
    agent = world.agent({"up": output(up, "langfuse")})
    body = {"batch": [{"id": f"e{n}", "type": "trace-create", "timestamp": "2026-05-04T09:12:33Z",
                       "body": {"id": f"t{n}", "name": "x" * 500}} for n in range(20)]}
    assert agent.post(body, "/api/public/ingestion").status == 207
    agent.settled()
    assert all(r.headers["Content-Encoding"] is None for r in up.requests)
    assert agent.ledger("up")["delivered"] == 20


def test_langfuse_scores_as_python_5_posts_them(world, upstream):
    up = upstream(lambda r: (202, {"message": "Accepted"}))
    agent = world.agent({"up": output(up, "langfuse")})
    scores = [{"id": f"s{n}", "name": "helpful", "value": 0.5, "traceId": "t" * 600} for n in range(3)]
    reply = agent.post(scores, "/api/public/scores", **{"X-Langfuse-Sdk-Name": "python"})
    assert reply.status == 202 and reply.json() == {"message": "Accepted"}
    agent.settled()
    sent = up.requests[0]
    assert sent.path == "/api/public/scores" and json.loads(sent.body) == scores
    assert sent.headers["Content-Encoding"] is None and sent.headers["X-Langfuse-Sdk-Name"] == "python"
    assert sent.headers["Authorization"] == "Basic " + base64.b64encode(b"pk-ours:sk-ours").decode()
    assert agent.metric("penstock_events_received_total", input="http") == 3
    for bad in ("[]", "{", "[1]", "7"):
        assert agent.post(bad, "/api/public/scores").status == 400, bad


@pytest.mark.parametrize("answer,state", [((207, {"accepted": 1, "rejected": 1, "errors": []}), "delivered"), (404, "pending"),
                                          (400, "dead")])
def test_langfuse_scores_by_answer(world, upstream, answer, state):
    up = upstream(lambda r: answer)
    agent = world.agent({"up": output(up, "langfuse")}).explain("up", "dead", "skipped")
    assert agent.post([{"name": "a", "value": 1, "traceId": "t"}], "/api/public/scores").status == 202
    until(lambda: agent.ledger("up")[state] == 1 and len(up.requests) >= (2 if state == "pending" else 1), f"it is {state}")
    assert len(up.requests) == 1 or state == "pending"


def test_langfuse_projects_have_what_its_sdks_read(world, upstream):
    up = upstream(lambda r: 200)
    agent = world.agent({"up": output(up, "langfuse")})
    project = agent.request("GET", "/api/public/projects").json()["data"][0]
    assert project["id"] and project["name"] and project["organization"]["id"] and project["organization"]["name"]
    assert isinstance(project["metadata"], dict)


# --- OTLP -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("encoding,squeeze", [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_otlp_stays_as_it_came_but_it_must_decode(world, upstream, encoding, squeeze):
    up = upstream(lambda r: (200, "{}"))
    agent = world.agent({"up": output(up, "otlp")}).explain("note")
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    squeezed = squeeze(SPANS)  # once: gzip writes the second it was made in into its header
    assert agent.request("POST", "/v1/traces", squeezed, headers).status == 200
    agent.settled()
    assert up.requests[0].body == squeezed and up.requests[0].headers["Content-Encoding"] == encoding
    assert agent.request("POST", "/v1/traces", squeezed[:-9], headers).status == 400
    assert agent.request("POST", "/v1/traces", squeeze(b"{]"), headers).status == 400
    assert agent.request("POST", "/v1/traces", SPANS, {**headers, "Content-Encoding": "br"}).status == 415
    assert agent.ledger("up")["accepted"] == 1
    assert agent.metric("penstock_events_rejected_total", input="http", reason="bad_compression") == 2


def test_an_encoding_that_the_collector_refuses_holds_up_nothing_else(world, upstream):
    up = upstream(lambda r: 415 if r.headers["Content-Encoding"] == "deflate" else (200, "{}"))
    agent = world.agent({"up": output(up, "otlp")}).explain("note", "held")
    headers = {"Content-Type": "application/json"}
    assert agent.request("POST", "/v1/traces", zlib.compress(SPANS), {**headers, "Content-Encoding": "deflate"}).status == 200
    until(lambda: len(up.requests) >= 1, "it is tried")
    assert agent.request("POST", "/v1/traces", gzip.compress(SPANS), {**headers, "Content-Encoding": "gzip"}).status == 200
    until(lambda: agent.ledger("up")["delivered"] == 1, "the other one is delivered")
    assert agent.ledger("up")["pending"] == 1


def test_an_empty_protobuf_export_is_taken(world, upstream):
    up = upstream(lambda r: 200)
    agent = world.agent({"up": output(up, "otlp")}).explain("note")
    reply = agent.request("POST", "/v1/metrics", b"", {"Content-Type": "application/x-protobuf"})
    assert reply.status == 200 and reply.body == b""
    agent.settled()
    assert agent.ledger("up")["delivered"] == 1


# --- Monk -----------------------------------------------------------------------------------------------------

def usage(n, **more):
    return {"eventName": "e", "externalCustomerId": "c", "idempotencyKey": f"k{n}", "properties": {"n": n}, **more}


def test_monk_splits_down_to_the_path_for_one(world, upstream):
    def answer(r):
        body = json.loads(r.body)
        if any(e["properties"]["n"] == 2 for e in body.get("events", [body])):
            return 400, {"error": {"message": "no such meter", "code": "VALIDATION_ERROR"}}
        return 202, {"status": "accepted", **({"count": len(body["events"])} if "events" in body else {"idempotencyKey": "k"})}
    up = upstream(answer)
    agent = world.agent({"up": output(up, "monk")})
    agent.explain("up", "dead")
    assert agent.post({"events": [usage(n) for n in range(4)]}, "/v1/events/batch").status == 202
    agent.settled()
    assert agent.ledger("up") == {"accepted": 4, "pending": 0, "delivered": 3, "dead": 1, "dropped": 0}
    singles = [json.loads(r.body) for r in up.requests if r.path == "/v1/events"]
    assert {"eventName", "idempotencyKey", "timestamp"} <= set(singles[0])
    assert 2 in [e["properties"]["n"] for e in singles]
    assert up.requests[0].path == "/v1/events/batch"


def test_monk_without_the_path_for_one_is_asked_by_batch(world, upstream):
    def answer(r):
        body = json.loads(r.body)
        if r.path == "/v1/events":
            return 404, {"error": {"message": "no such path", "code": "NOT_FOUND"}}
        bad = any(e["properties"]["n"] == 2 for e in body["events"])
        return (400, {"error": {"message": "bad"}}) if bad else (202, {"status": "accepted", "count": len(body["events"])})
    up = upstream(answer)
    agent = world.agent({"up": output(up, "monk")})
    agent.explain("up", "dead")
    assert agent.post({"events": [usage(n) for n in range(4)]}, "/v1/events/batch").status == 202
    agent.settled()
    assert agent.ledger("up")["delivered"] == 3 and agent.ledger("up")["dead"] == 1


def test_monk_lenient_takes_the_bad_ones_as_dead_letters(world, upstream):
    up = upstream(lambda r: (202, {"status": "accepted", "count": len(json.loads(r.body)["events"])}))
    agent = world.agent({"up": output(up, "monk", monk={"lenient": True})})
    agent.explain("up", "dead")
    bad = [usage(1, customerId="both"), {"externalCustomerId": "c"}, 7]
    reply = agent.post({"events": [usage(0), *bad, usage(2)]}, "/v1/events/batch")
    assert reply.status == 202 and reply.json()["count"] == 5
    agent.settled()
    assert agent.ledger("up") == {"accepted": 5, "pending": 0, "delivered": 2, "dead": 3, "dropped": 0}
    assert agent.metric("penstock_events_dead_total", output="up", reason="invalid") == 3
    assert sorted(e["properties"]["n"] for r in up.requests for e in json.loads(r.body)["events"]) == [0, 2]


# --- SegOps ---------------------------------------------------------------------------------------------------

def test_segops_sessions_can_be_off(world, upstream):
    up = upstream(lambda r: (201, {"token": "t", "expires_at": "x", "uid": "u"}))
    agent = world.agent({"up": output(up, "segops")})
    headers = {"Authorization": "ApiKey pk_1", "Origin": "https://shop"}
    reply = agent.request("POST", "/api/auth/session/", b"{}", {"Content-Type": "application/json", **headers})
    assert reply.status == 201 and reply.json()["token"] == "t"
    assert up.requests[0].headers["Authorization"] == "ApiKey pk_1" and up.requests[0].headers["Origin"] == "https://shop"
    off = world.agent({"up": output(up, "segops", segops={"session": "off"})})
    reply = off.request("POST", "/api/auth/session", b"{}", {"Content-Type": "application/json"})
    assert reply.status == 404 and reply.json()["detail"]
    assert len(up.requests) == 1


def test_segops_keeps_members_that_it_does_not_know(world, upstream):
    up = upstream(lambda r: (202, {"queued": len(json.loads(r.body)["events"]), "skipped": 0}))
    agent = world.agent({"up": output(up, "segops")})
    e = {"user_id": "u", "event_type": "t", "context": {"ip": "1"}, "occurred_at": "2026-05-04T09:12:33Z"}
    reply = agent.post({"events": [e]}, "/api/ingestion/track/batch/")
    assert reply.status == 202 and reply.json() == {"queued": 1, "skipped": 0}
    agent.settled()
    assert json.loads(up.requests[0].body)["events"] == [e]


# --- CloudEvents webhooks -------------------------------------------------------------------------------------

@pytest.mark.parametrize("allowed", ["*", "penstock.example"])
def test_a_webhook_is_asked_for_consent_before_the_first_delivery(world, upstream, allowed):
    up = upstream(lambda r: (200, "", {"WebHook-Allowed-Origin": allowed, "WebHook-Allowed-Rate": "6000"})
                  if r.command == "OPTIONS" else 204)
    agent = world.agent({"up": output(up, "cloudevents", "/hook", webhook_origin="penstock.example")})
    assert agent.post([event(n) for n in range(5)]).status == 202
    agent.settled()
    assert [r.command for r in up.requests] == ["OPTIONS"] + ["POST"] * len(up.of("POST"))
    assert up.requests[0].path == "/hook"
    assert up.requests[0].headers["WebHook-Request-Origin"] == "penstock.example"
    assert agent.post(event(9)).status == 202
    agent.settled()
    assert len(up.of("OPTIONS")) == 1


def test_without_consent_nothing_is_delivered_until_it_is_given(world, upstream):
    consent = threading.Event()
    def answer(r):
        if r.command == "OPTIONS":
            return (200, "", {"WebHook-Allowed-Origin": "a" if consent.is_set() else "someone.else"})
        return 204
    up = upstream(answer)
    agent = world.agent({"up": output(up, "cloudevents", "/hook", webhook_origin="a")})
    agent.explain("consent")
    assert agent.post(event(1)).status == 202
    until(lambda: len(up.of("OPTIONS")) >= 2, "it is asked again")
    assert up.of("POST") == [] and agent.ledger("up")["pending"] == 1
    assert "consent" in json.dumps(agent.status())
    consent.set()
    agent.settled()
    assert len(up.of("POST")) == 1


def test_without_webhook_origin_nobody_is_asked(world, upstream):
    up = upstream(lambda r: 204)
    agent = world.agent({"up": output(up, "cloudevents", "/hook")})
    assert agent.post(event(1)).status == 202
    agent.settled()
    assert [r.command for r in up.requests] == ["POST"]


def test_as_a_webhook_itself(world, upstream):
    up = upstream(lambda r: 200)
    agent = world.agent({"up": output(up, "http", "/in")}, start=False)
    agent.http_input(webhook=True)
    agent.start()
    headers = {"WebHook-Request-Origin": "a.example", "WebHook-Request-Rate": "120"}
    reply = agent.request("OPTIONS", "/events", headers=headers)
    assert reply.status == 200
    assert reply.headers["webhook-allowed-origin"] == "a.example" and reply.headers["webhook-allowed-rate"] == "120"
    assert agent.request("OPTIONS", "/events").status == 400


# --- limits ---------------------------------------------------------------------------------------------------

def test_limits_local_events_bounds_a_request_on_a_vendors_path(world, upstream):
    up = upstream(lambda r: (202, {"status": "accepted", "count": len(json.loads(r.body)["events"])}))
    agent = world.agent({"up": output(up, "monk", limits={"local_events": 3})})
    assert agent.post({"events": [usage(n) for n in range(3)]}, "/v1/events/batch").status == 202
    assert agent.post({"events": [usage(n) for n in range(4)]}, "/v1/events/batch").status in (400, 413)
    agent.settled()


# --- who may, and what is said when something is amiss ----------------------------------------------------------

def basic(secret):
    return "Basic " + base64.b64encode(b"pk-any:" + secret.encode()).decode()


IMPORT = [{"kind": "custom", "key": "k", "creationDate": 1777885953004, "contextKeys": {"user": "u"}}]
TRACE = {"batch": [{"id": "e1", "type": "trace-create", "timestamp": "2026-05-04T09:12:33Z", "body": {"id": "t"}}]}
TRACKED = {"user_id": "u", "event_type": "t"}
NEUTRAL = {"type": "t", "subject": "u"}

# path, body, how the token is presented, further headers: (good, no token, full, no output)
PATHS = [
    ("/events", NEUTRAL, ("Authorization", "Bearer T"), {}, (202, 401, 429, 400)),
    ("/1/batch/d", [{"data": {"a": 1}}], ("X-Honeycomb-Team", "T"), {}, (200, 401, 429, 503)),
    ("/1/batch/d", [{"data": {"a": 1}}], ("X-Hny-Team", "T"), {}, (200, 401, 429, 503)),
    ("/1/events/d", {"a": 1}, ("X-Honeycomb-Team", "T"), {}, (200, 401, 429, 503)),
    ("/api/public/ingestion", TRACE, ("Authorization", basic("T")), {}, (207, 401, 429, 503)),
    (OTEL, {"resourceSpans": []}, ("Authorization", basic("T")), {}, (200, 401, 429, 503)),
    ("/v2/event-data-import/p/e", IMPORT, ("Authorization", "T"), {"X-LaunchDarkly-Event-Schema": "4"}, (202, 401, 429, 503)),
    ("/bulk", [{"kind": "custom"}], ("Authorization", "T"), {}, (202, 503, 429, 503)),
    ("/diagnostic", {"kind": "diagnostic"}, ("Authorization", "T"), {}, (202, 503, 429, 503)),
    ("/mobile/events/bulk", [{"kind": "custom"}], ("Authorization", "T"), {}, (202, 503, 429, 503)),
    ("/events/bulk/abc", [{"kind": "custom"}], ("X-None", "T"), {}, (503, 503, 429, 503)),
    ("/v1/events", {"eventName": "e", "customerId": "c"}, ("Authorization", "Bearer T"), {}, (202, 401, 429, 503)),
    ("/v1/events/batch", {"events": [{"eventName": "e", "customerId": "c"}]}, ("Authorization", "Bearer T"), {}, (202, 401, 429, 503)),
    ("/api/ingestion/track/", TRACKED, ("Authorization", "ApiKey T"), {}, (202, 401, 503, 503)),
    ("/api/ingestion/track/batch/", {"events": [TRACKED]}, ("Authorization", "ApiKey T"), {}, (202, 401, 503, 503)),
    ("/v1/logs", {"resourceLogs": []}, ("Authorization", "Bearer T"), {}, (200, 401, 429, 503)),
]
APIS = ("honeycomb", "langfuse", "launchdarkly", "monk", "segops", "otlp", "http")


def every_output(up, **more):
    return {name: output(up, name, "/in" if name == "http" else "", **more) for name in APIS}


def make_all(world, upstream, routes=True, outputs=None, **http):
    up = upstream(lambda r: 500)
    agent = world.agent(outputs or every_output(up), start=False).explain(".")
    if routes:
        agent.config["routes"] = [{"to": ["http"]}]
    agent.http_input(**http)
    return agent


def try_all(agent, expected, token=True, passing=False):
    wrong = []
    for path, body, (name, value), headers, statuses in PATHS:
        reply = agent.post(body, path, **headers, **({name: value} if token else {}))
        if reply.status != statuses[expected]:
            wrong.append((path, name, reply, statuses[expected]))
        elif reply.status >= 400:
            assert reply.headers["content-type"] == "application/json", (path, reply)
            assert isinstance(reply.json(), dict), (path, reply)
            if passing and reply.status in (429, 503):
                assert 1 <= int(reply.headers["retry-after"]) <= 5, (path, reply.headers)
    assert wrong == []


def test_auth_token_is_presented_as_each_vendors_key(world, upstream):
    agent = make_all(world, upstream, auth={"token": "T"}).start()
    try_all(agent, 0)
    try_all(agent, 1, token=False)
    for path, body, (name, value), headers, statuses in PATHS:  # a wrong one, and a scheme without one
        for wrong in (value[:-1] + "U" if value.endswith("T") else basic("U"), value.split(" ")[0], ""):
            if wrong != value:
                reply = agent.post(body, path, **headers, **{name: wrong})
                assert reply.status == statuses[1], (path, wrong, reply)
    assert agent.request("GET", "/api/public/health").status == 200
    assert agent.request("GET", "/api/public/projects").status == 401
    assert agent.request("GET", "/api/public/projects", headers={"Authorization": basic("T")}).status == 200
    assert agent.request("GET", "/1/auth").status == 401
    assert agent.request("GET", "/a/abc.gif?d=W10=").status == 503
    assert agent.request("OPTIONS", "/events/bulk/abc").status == 204
    assert agent.request("POST", "/api/auth/session/", b"{}").status == 404


def test_full_is_what_each_vendors_clients_survive(world, upstream):
    agent = make_all(world, upstream)
    agent.config["agent"]["min_free"] = "1000TiB"
    agent.launch()
    until(lambda: agent.request("GET", "/api/public/health").status == 200, "it listens")
    for path, body, _, headers, _ in PATHS:  # free space is looked at once there are commits
        agent.post(body, path, **headers)
    until(lambda: agent.admin("GET", "/readyz").status == 503, "it sees that the disk is full")
    try_all(agent, 2, passing=True)
    assert agent.metric("penstock_events_rejected_total", input="http", reason="full") >= len(PATHS)


def test_no_output_is_what_each_vendors_clients_survive(world, upstream):
    up = upstream(lambda r: 500)
    agent = make_all(world, upstream, outputs={"a": output(up, "http", "/a"), "b": output(up, "http", "/b")}, routes=False).start()
    try_all(agent, 3)
    assert agent.metric("penstock_events_rejected_total", input="http", reason="no_route") == len(PATHS)
    assert agent.request("POST", "/api/auth/session/", b"{}").status == 503


def test_what_no_record_of_the_spool_can_hold_is_refused_alone(world, upstream):
    up = upstream(lambda r: 500)
    outputs = {name: output(up, name, spool={"segment_bytes": "1MiB"}) for name in ("langfuse", "launchdarkly")}
    agent = make_all(world, upstream, outputs=outputs, routes=False)
    agent.config["routes"] = [{"to": ["langfuse"]}]
    agent.start()
    long = "\U0001f600" * 800
    trace = {"type": "trace-create", "timestamp": "2026-05-04T09:12:33Z", "body": {"id": "t"}}
    reply = agent.post({"batch": [{"id": "a", **trace}, {"id": long, **trace}, {"id": "b", **trace}]}, "/api/public/ingestion")
    assert reply.status == 207 and [x["id"] for x in reply.json()["successes"]] == ["a", "b"], reply
    assert [x["id"] for x in reply.json()["errors"]] == [long], reply
    assert agent.post({"type": "t", "id": long}).status == 413
    for size, status in (250000, 2), (260000, 413), (300000, 413):  # up to 256 KiB a request is not taken in pieces
        for path, body in ("/bulk", [{"kind": "x" * size}]), (OTEL, {"resourceSpans": "x" * size}), \
                ("/api/public/scores", [{"id": "x" * size}]):
            reply = agent.post(body, path)
            assert status in (reply.status, reply.status // 100), (path, size, reply)
            assert status == 2 or b"spool.segment_bytes" in reply.body, reply
    assert agent.metric("penstock_events_rejected_total", input="http", reason="too_large") == 8
    assert agent.metric("penstock_events_received_total", input="http") == 4 + 9


def test_what_is_refused_whole_is_counted_on_every_path(world, upstream):
    """A body of which not even the events can be told apart is one of them."""
    agent = make_all(world, upstream).start()
    received = rejected = 0
    for path, _, _, headers, _ in PATHS:
        for body, type_ in ("{", "application/json"), ("", "application/json"), ("hello", "text/plain"):
            reply = agent.post(body, path, **{**headers, "Content-Type": type_})
            assert reply.status in (400, 415), (path, body, reply)
            received, rejected = received + 1, rejected + 1
            assert agent.metric("penstock_events_received_total", input="http") == received, (path, body, reply)
            assert agent.metric("penstock_events_rejected_total", input="http", reason="malformed") == rejected, (path, body, reply)
    for kind, status in ("a", 202), ("b", 400):
        reply = agent.post([{"kind": kind}], "/bulk", **{"X-LaunchDarkly-Payload-ID": "p"})
        assert reply.status == status, reply
    assert agent.metric("penstock_events_received_total", input="http") == received + 2
    assert agent.metric("penstock_events_rejected_total", input="http", reason="malformed") == rejected + 1


def test_a_request_under_way_when_the_agent_stops_is_503_and_the_end(world, upstream):
    """Its first half is there before the signal, its second comes after it."""
    agent = make_all(world, upstream)
    agent.config["agent"]["drain_timeout"] = "5s"
    agent.start()
    assert agent.post(NEUTRAL).status == 202  # something to drain
    wires = []
    for path, body, _, headers, _ in PATHS:
        body = json.dumps(body)
        w = agent.wire()
        lines = "".join(f"{k}: {v}\r\n" for k, v in {"Content-Type": "application/json", "Expect": "100-continue", **headers}.items())
        w.say(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{lines}\r\n")
        assert w.reply().status == 100
        wires.append((path, w, body))
    agent.process.signal(signal.SIGTERM)
    until(lambda: "stopping" in agent.process.err() or agent.admin("GET", "/readyz").status == 503, "it stops")
    for path, w, body in wires:
        reply = w.say(body).reply()
        assert reply is not None and reply.status == 503, (path, reply)
        assert reply.headers["connection"] == "close" and w.ended(), path
        w.close()
    assert agent.process.wait(20) == 0


@needs_root
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("name, paths", [("http", r"/events$"), ("honeycomb", "/1/"), ("langfuse", "/api/public/"), ("otlp", "/v1/logs"),
                                         ("launchdarkly", "/v2|/bulk|/diag|/mobile|/events/"), ("monk", "/v1/events"),
                                         ("segops", "/api/ingestion/")])
def test_failed_storage_is_said_as_each_vendors_clients_survive_it(world, upstream, name, paths):
    """All requests wait for the same sync, and it fails."""
    agent = make_all(world, upstream, routes=False, outputs={name: every_output(upstream(lambda r: 500))[name]}).start()
    pid = agent.process.pid
    Process(world, "strace", ["strace", "-f", "-qq", "-o", str(world.dir / "trace"), "-p", str(pid), "-e", "trace=fdatasync",
                              "-e", "inject=fdatasync:error=EIO:delay_enter=150000"])
    until(lambda: not any("TracerPid:\t0" in (task / "status").read_text() for task in pathlib.Path(f"/proc/{pid}/task").iterdir()),
          "it is traced")
    wires = [(agent.wire(), row) for row in PATHS if re.match(paths, row[0])]
    for wire, (path, body, _, headers, _) in wires:
        wire.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
    said = []
    for wire, (path, *_) in wires:
        reply = wire.reply()
        assert reply is not None and reply.status == 503, (path, reply)
        assert 1 <= int(reply.headers["retry-after"]) <= 5 and isinstance(reply.json(), dict), (path, reply)
        said.append(b"storage" in reply.body)
        wire.close()
    assert said[0], "those who come too late for that sync may hear that the agent stops"
    agent.kill()


# --- TLS towards senders ---------------------------------------------------------------------------------------

def test_an_input_that_wants_certificates_of_its_senders(world, upstream):
    authority = world.authority()
    cert, key = authority.issue("server")
    client, client_key = authority.issue("client")
    strangers = world.authority("strangers")
    stranger, stranger_key = strangers.issue("stranger")
    agent = make_all(world, upstream, tls={"cert_file": str(cert), "key_file": str(key), "client_ca_file": str(authority.ca)})
    agent.start()

    def attempt(certificate):
        context = ssl.create_default_context(cafile=str(authority.ca))
        if certificate is not None:
            context.load_cert_chain(*map(str, certificate))
        with agent.wire(tls=context) as w:
            w.request("POST", "/events", json.dumps(NEUTRAL), {"Content-Type": "application/json"})
            return w.reply()

    assert attempt((client, client_key)).status == 202
    for nobody in (None, (stranger, stranger_key)):
        with pytest.raises((ssl.SSLError, OSError, AssertionError)):
            assert attempt(nobody) is not None
    with agent.wire() as w:  # in clear
        w.request("POST", "/events", json.dumps(NEUTRAL))
        try:
            assert not w.more() or b"202" not in w.buffer
        except OSError:
            pass
    assert agent.ledger("http")["accepted"] == 1


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_a_listener_for_everybody_needs_a_token_or_the_unsafe_line(world, upstream, listen):
    up = upstream(lambda r: 200)
    for more, good in (({}, False), ({"auth": {"token": "T"}}, True), ({"i_know_this_is_unsafe": True}, True)):
        path = world.dir / "unsafe.yaml"
        path.write_text(json.dumps({"agent": {"data_dir": str(world.dir / "d")}, "outputs": {"up": output(up, "http", "/in")},
                                    "inputs": {"http": {"type": "http", "listen": listen, **more}}}))
        done = run([PENSTOCK, "check", "-c", str(path)])
        assert done.returncode == (0 if good else 78), (more, done.stderr)
        assert good or "i_know_this_is_unsafe" in done.stderr


# --- routes -----------------------------------------------------------------------------------------------------

def test_routes_by_type_source_subject_and_input_first_match_wins(world, upstream):
    got = {name: [] for name in "abcd"}
    up = upstream(lambda r: got[r.path[1]].extend(e["id"] for e in json.loads(gzip.decompress(r.body) if r.headers["Content-Encoding"] else r.body)) or 200)
    agent = world.agent({name: output(up, "http", f"/{name}") for name in "abcd"}, start=False)
    agent.config["inputs"]["other"] = {"type": "http", "listen": "127.0.0.1:0"}
    agent.config["routes"] = [
        {"when": {"type": "billing.*", "source": "/shop/*"}, "to": ["a", "b"]},
        {"when": {"subject": "u-?"}, "to": ["c"]},
        {"when": {"input": "oth*"}, "to": ["b"]},
        {"when": {"type": "keep"}, "to": ["d"]},
    ]
    agent.start()
    events = [{"id": "1", "type": "billing.paid", "source": "/shop/eu", "subject": "u-1"},
              {"id": "2", "type": "billing.paid", "source": "/other", "subject": "u-1"},
              {"id": "3", "type": "billing", "source": "/shop/eu"},
              {"id": "4", "type": "keep", "source": "/s", "subject": "u-12"},
              {"id": "5", "type": "keep", "source": "/s"}]
    reply = agent.post(events)
    assert reply.status == 207
    assert [r["index"] for r in reply.json()["rejected"]] == [2] and "route" in reply.json()["rejected"][0]["error"]
    agent.settled()
    assert got == {"a": ["1"], "b": ["1"], "c": ["2"], "d": ["4", "5"]}
    assert agent.metric("penstock_events_rejected_total", input="http", reason="no_route") == 1


def test_a_sampled_route_keeps_one_in_n_and_says_so(world, upstream):
    rates = []
    up = upstream(lambda r: rates.extend(e.get("sampledrate") for e in json.loads(gzip.decompress(r.body) if r.headers["Content-Encoding"] else r.body)) or 200)
    agent = world.agent({"up": output(up, "http", "/in")}, start=False)
    agent.config["routes"] = [{"when": {"type": "debug"}, "sample": 10, "to": ["up"]}, {"to": ["up"]}]
    agent.start()
    reply = agent.post([{"type": "debug", "sampledrate": 3} for _ in range(2000)])
    assert reply.status == 202 and reply.json() == {"accepted": 2000}
    agent.settled()
    assert set(rates) == {30} and 100 < len(rates) < 320  # 200 ± 9 standard deviations
    assert agent.metric("penstock_events_sampled_total", input="http") == 2000 - len(rates)
    assert agent.ledger("up")["accepted"] == len(rates)


def test_an_event_for_two_outputs_is_taken_by_both_or_by_none(world, upstream):
    up = upstream(lambda r: (202, {"status": "accepted"}))
    agent = world.agent({"money": output(up, "monk"), "seen": output(up, "http", "/in")}, start=False)
    agent.config["routes"] = [{"to": ["seen", "money"]}]
    agent.start()
    bad = [{"type": "t"}, {"type": "t", "subject": "u", "sampledrate": 2}, {"type": "t", "subject": "u", "data_base64": "AA=="},
           {"type": "t", "subject": "u", "time": "2999-01-01T00:00:00Z"}, {"type": "t", "subject": "u", "data": {"a": {"b": 1}, "a.b": 2}},
           {"type": "t", "subject": "u", "id": "x" * 256}]
    reply = agent.post([*bad, {"type": "t", "subject": "u"}])
    assert reply.status == 207 and reply.json()["accepted"] == 1
    assert [r["index"] for r in reply.json()["rejected"]] == list(range(len(bad)))
    assert all(len(r["error"]) > 5 for r in reply.json()["rejected"])
    agent.settled()
    assert agent.ledger("seen")["accepted"] == agent.ledger("money")["accepted"] == 1
    assert agent.metric("penstock_events_rejected_total", input="http", reason="unrenderable") == len(bad)


MAPPED = {"specversion": "1.0", "id": "o-19", "source": "/shop/eu", "type": "com.acme.OrderPlaced", "subject": "u-7",
          "time": "2026-05-04T11:12:33.004+02:00", "data": {"total": 89.95, "items": [1, 2], "ship": {"days": 2}}}


@pytest.mark.parametrize("type_,more,expected", [
    ("honeycomb", {"partition": "d"}, {"time": "2026-05-04T09:12:33.004Z", "data": {"type": "com.acme.OrderPlaced", "source": "/shop/eu", "subject": "u-7", "total": 89.95, "items": [1, 2], "ship": {"days": 2}}}),
    ("honeycomb", {"map": {"dataset": "type", "flatten": True}, "honeycomb": {"id_field": "meta.id"}}, {"time": "2026-05-04T09:12:33.004Z", "data": {"type": "com.acme.OrderPlaced", "source": "/shop/eu", "subject": "u-7", "total": 89.95, "items": [1, 2], "ship.days": 2, "meta.id": "o-19"}}),
    ("langfuse", {}, {"id": "o-19", "type": "event-create", "timestamp": "2026-05-04T09:12:33.004Z", "body": {"id": "o-19", "name": "com.acme.OrderPlaced", "startTime": "2026-05-04T09:12:33.004Z", "input": {"total": 89.95, "items": [1, 2], "ship": {"days": 2}}, "metadata": {"source": "/shop/eu", "subject": "u-7"}}}),
    ("launchdarkly", {}, {"kind": "custom", "key": "com.acme.OrderPlaced", "creationDate": 1777885953004, "contextKeys": {"user": "u-7"}, "data": {"total": 89.95, "items": [1, 2], "ship": {"days": 2}}}),
    ("monk", {}, {"eventName": "com.acme.OrderPlaced", "externalCustomerId": "u-7", "idempotencyKey": "o-19", "timestamp": "2026-05-04T09:12:33.004Z", "properties": {"total": 89.95, "items": "[1,2]", "ship.days": 2}}),
    ("monk", {"map": {"subject": "customerId", "source": "source"}}, {"eventName": "com.acme.OrderPlaced", "customerId": "u-7", "idempotencyKey": "o-19", "timestamp": "2026-05-04T09:12:33.004Z", "properties": {"source": "/shop/eu", "total": 89.95, "items": "[1,2]", "ship.days": 2}}),
    ("segops", {}, {"user_id": "u-7", "event_type": "com_acme_order_placed", "occurred_at": "2026-05-04T09:12:33.004Z", "payload": {"total": 89.95, "items": [1, 2], "ship": {"days": 2}}}),
    ("segops", {"map": {"type_prefix": "com.acme.", "source": "src"}, "segops": {"id_field": "pid"}}, {"user_id": "u-7", "event_type": "order_placed", "occurred_at": "2026-05-04T09:12:33.004Z", "payload": {"src": "/shop/eu", "pid": "o-19", "total": 89.95, "items": [1, 2], "ship": {"days": 2}}}),
])
def test_a_neutral_event_in_each_vendors_words(world, upstream, type_, more, expected):
    up = upstream(lambda r: 503)
    agent = world.agent({"up": {**output(up, type_, compression="none") , **more}}).explain("up")
    assert agent.post(MAPPED, **{"Content-Type": "application/cloudevents+json"}).status == 202
    until(lambda: up.requests, "it is sent")
    sent = json.loads(up.requests[0].body)
    element = sent[0] if isinstance(sent, list) else sent.get("events", sent.get("batch"))[0]
    assert element == expected
    if type_ == "honeycomb":
        assert up.requests[0].path == "/1/batch/" + ("d" if "partition" in more else "com.acme.OrderPlaced")
