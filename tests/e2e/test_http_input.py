"""HTTP as an input speaks it: connections, framing, limits, and the code for each way in which a request can be wrong."""
import json
import socket
import time

import pytest
from harness import event, until

BODY = json.dumps(event(1)).encode()


@pytest.fixture
def pair(world):
    sink = world.sink()
    return world.agent({"up": sink.output("http")}), sink


def make(world, **http):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")}, start=False)
    agent.http_input(**http)
    return agent.start(), sink


# --- connections -----------------------------------------------------------------------------------------------

def test_keep_alive(pair):
    agent, sink = pair
    with agent.wire() as w:
        for n in range(20):
            w.request("POST", "/events", json.dumps(event(n)))
            assert w.reply().status == 202
    agent.settled()
    sink.check(unique=20)


def test_pipelining_answers_in_order(pair):
    agent, sink = pair
    with agent.wire() as w:
        for n in range(100):
            body = json.dumps([event(n)] * 1) if n % 3 else "oops"
            w.request("POST", "/events", body, {"Content-Type": "application/json"})
        assert [w.reply().status for _ in range(100)] == [202 if n % 3 else 400 for n in range(100)]
    agent.settled()
    sink.check(unique=66)


def test_connection_close_is_obeyed(pair):
    agent, _ = pair
    with agent.wire() as w:
        w.request("POST", "/events", BODY, {"Connection": "close"})
        reply = w.reply()
        assert reply.status == 202 and reply.headers["connection"] == "close"
        assert w.ended()


def test_http_1_0(pair):
    agent, _ = pair
    with agent.wire() as w:
        w.say(b"POST /events HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
        assert w.reply().status == 202
        assert w.ended()
    with agent.wire() as w:
        w.say(b"POST /events HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
        reply = w.reply()
        assert reply.status == 202 and reply.headers["connection"].lower() == "keep-alive"


def test_chunked_bodies_in_pieces(pair):
    agent, sink = pair
    with agent.wire() as w:
        w.say("POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(BODY), 7):
            piece = BODY[i:i + 7]
            w.say(b"%x\r\n" % len(piece)).say(piece + b"\r\n")
        w.say("0\r\nTrailer: x\r\n\r\n")
        assert w.reply().status == 202
    agent.settled()
    sink.check(unique=1)


def test_a_request_byte_by_byte(pair):
    agent, _ = pair
    with agent.wire() as w:
        for byte in b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY:
            w.say(bytes([byte]))
        assert w.reply().status == 202


def test_expect_100_continue(pair):
    agent, _ = pair
    with agent.wire() as w:
        w.say(f"POST /events HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(BODY)}\r\n\r\n")
        assert w.reply().status == 100
        w.say(BODY)
        assert w.reply().status == 202


def test_expect_100_continue_is_refused_before_the_body(world):
    agent, _ = make(world, max_body="64KiB")
    with agent.wire() as w:
        w.say("POST /events HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
        assert w.reply().status == 413


def test_a_thousand_connections_at_once(pair):
    agent, sink = pair
    wires = [agent.wire() for _ in range(500)]
    try:
        for n, w in enumerate(wires):
            w.request("POST", "/events", json.dumps(event(n)))
        assert all(w.reply().status == 202 for w in wires)
    finally:
        for w in wires:
            w.close()
    agent.settled()
    sink.check(unique=500)


def test_beyond_max_connections_the_longest_idle_one_makes_room(world):
    agent, _ = make(world, max_connections=4)
    agent.explain("max_connections")
    wires = [agent.wire() for _ in range(4)]
    for w in wires:
        w.request("POST", "/events", BODY)
        assert w.reply().status == 202
    with agent.wire() as fifth:
        fifth.request("POST", "/events", BODY)
        assert fifth.reply().status == 202
    assert wires[0].ended()
    for w in wires:
        w.close()


def test_beyond_max_connections_with_none_idle_is_503(world):
    agent, _ = make(world, max_connections=2)
    agent.explain("max_connections")
    wires = [agent.wire() for _ in range(2)]
    for w in wires:
        # Its interim answer shows that the agent has seen it busy.
        w.say("POST /events HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
        assert "100" in str(w.line())
    with agent.wire() as third:
        third.request("POST", "/events", BODY)
        assert third.reply().status == 503
    for w in wires:
        w.close()


def test_idle_timeout_closes_silently(world):
    agent, _ = make(world, idle_timeout="300ms")
    with agent.wire() as w:
        w.request("POST", "/events", BODY)
        assert w.reply().status == 202
        begun = time.monotonic()
        assert w.ended()
        assert time.monotonic() - begun > 0.2


@pytest.mark.parametrize("begun", ["POST /events HT", "POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"ty"])
def test_too_slow_is_408(world, begun):
    agent, _ = make(world, request_timeout="300ms")
    with agent.wire() as w:
        w.say(begun)
        reply = w.reply()
        assert reply is not None and reply.status == 408
        assert w.ended()


def test_a_client_that_goes_away_in_its_body_leaves_nothing(pair):
    agent, _ = pair
    with agent.wire() as w:
        w.say(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + BODY)
    with agent.wire() as w:
        w.request("POST", "/events", BODY)
        assert w.reply().status == 202
    assert agent.metric("penstock_events_accepted_total", output="up") == 1


def test_a_client_that_half_closes_still_gets_its_answer(pair):
    agent, _ = pair
    with agent.wire() as w:
        w.request("POST", "/events", BODY)
        w.sock.shutdown(socket.SHUT_WR)
        assert w.reply().status == 202


# --- codes ----------------------------------------------------------------------------------------------------

def refusal(reply, status, code=None):
    assert reply is not None and reply.status == status, reply
    error = reply.json()["error"]
    assert error["message"]
    if code is not None:
        assert error["code"] == code, error
    return reply


def test_unknown_paths_are_404(pair):
    agent, _ = pair
    for path in ("/", "/event", "/events/x", "/v3/nothing"):
        refusal(agent.request("POST", path, BODY), 404)


def test_other_methods_are_405_with_allow(pair):
    agent, _ = pair
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        reply = agent.request(method, "/events")
        assert reply.status == 405, (method, reply)
        assert "POST" in reply.headers["allow"]


def test_head_has_no_body(pair):
    agent, _ = pair
    with agent.wire() as w:
        w.request("HEAD", "/events")
        assert w.reply(head_only=True).status == 405
        w.request("POST", "/events", BODY)
        assert w.reply().status == 202


def test_a_slash_at_the_end_and_a_query_are_tolerated(pair):
    agent, _ = pair
    assert agent.post(event(1), "/events/").status == 202
    assert agent.post(event(2), "/events?x=y").status == 202


def test_a_body_over_max_body_is_413(world):
    agent, _ = make(world, max_body="64KiB")
    refusal(agent.post(b"x" * 70000), 413, "too_large")
    with agent.wire() as w:
        w.say("POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(20):
                w.say(b"2000\r\n" + b" " * 0x2000 + b"\r\n")
        except OSError:
            pass
        refusal(w.reply(), 413, "too_large")


def test_headers_over_their_bound_are_431(pair):
    agent, _ = pair
    with agent.wire() as w:
        w.say("POST /events HTTP/1.1\r\nHost: x\r\n")
        try:
            for i in range(1000):
                w.say(f"X-{i}: {'y' * 200}\r\n")
        except OSError:
            pass
        refusal(w.reply(), 431)


@pytest.mark.parametrize("raw", [
    "POST /events HTTP/1.1\r\nHost : x\r\nContent-Length: 0\r\n\r\n",
    "POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /events HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "POST /events HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "POST /events HTTP/1.1\nHost: x\n\n",
    "POST /events HTTP/0.9\r\nHost: x\r\n\r\n",
    "POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nonsense\r\n\r\n",
])
def test_requests_that_could_be_read_in_two_ways_are_400_and_the_end(pair, raw):
    agent, _ = pair
    with agent.wire() as w:
        w.say(raw.encode("latin-1"))
        reply = w.reply()
        assert reply is not None and reply.status in (400, 501, 505), reply
        assert w.ended()


def test_auth_token(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")}, start=False)
    agent.http_input(auth={"token": "s3cret"})
    agent.start()
    refusal(agent.post(event(1)), 401)
    refusal(agent.post(event(1), Authorization="Bearer wrong"), 401)
    assert agent.post(event(1), Authorization="Bearer s3cret").status == 202
    assert agent.metric("penstock_events_rejected_total", input="http", reason="unauthorized") >= 1
    assert "s3cret" not in json.dumps(agent.status()) + agent.process.err()


# --- backpressure ---------------------------------------------------------------------------------------------

def test_full_is_429_with_retry_after_and_room_comes_back(world):
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http", spool={"max_bytes": "4MiB", "segment_bytes": "1MiB"})})
    agent.explain("up")
    accepted = 0
    def until_full():
        nonlocal accepted
        for _ in range(400):
            reply = agent.post([event(accepted + i, size=20000) for i in range(5)])
            if reply.status == 429:
                return reply
            assert reply.status == 202, reply
            accepted += 5
        raise AssertionError("never full")
    reply = until_full()
    assert 1 <= int(reply.headers["retry-after"]) <= 5
    assert reply.json()["error"]["code"]
    assert 10 < accepted < 400
    assert agent.admin("GET", "/readyz").status == 503
    sink.heal()
    until(lambda: agent.post(event(10 ** 6, size=20000)).status == 202, "room again", 20)
    agent.settled(timeout=30)
    sink.check(unique=accepted + 1)


def test_drop_newest_says_yes_and_counts(world):
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http", spool={"max_bytes": "4MiB", "segment_bytes": "1MiB", "when_full": "drop_newest"})})
    agent.explain("up")
    for i in range(100):
        assert agent.post([event(i * 5 + k, size=20000) for k in range(5)]).status == 202
    assert agent.metric("penstock_events_dropped_total", output="up", reason="shed") > 0
    agent.check_ledgers()


def test_drop_oldest_keeps_the_newest(world):
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http", spool={"max_bytes": "4MiB", "segment_bytes": "1MiB", "when_full": "drop_oldest"})})
    agent.explain("up")
    for i in range(100):
        events = [event(i * 5 + k, size=20000) for k in range(5)]
        # A slow disk may ask for patience, but it is never the upstream that is waited for.
        until(lambda: agent.post(events).status == 202, "taken", 5)
    sink.heal()
    agent.settled(timeout=30)
    assert 499 in sink.numbers()
    assert agent.metric("penstock_events_dropped_total", output="up") > 0
