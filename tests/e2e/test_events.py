"""POST /events: every form in which an event can come, and what is said to a sender whose event cannot be taken."""
import gzip
import json
import re
import subprocess
import time
import zlib

import pytest
from harness import event, until


@pytest.fixture
def pair(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")})
    return agent, sink


def arrived(agent, sink, count):
    """The events as they reached the upstream, in order of arrival."""
    agent.settled()
    sink.check()
    events = [line["event"] for line in sink.received()]
    assert len(events) == count, events
    return events


# --- forms that are taken --------------------------------------------------------------------------------------

def test_one_bare_object(pair):
    agent, sink = pair
    reply = agent.post({"type": "order.placed", "subject": "u-7", "data": {"total": 89.95}})
    assert (reply.status, reply.json()) == (202, {"accepted": 1})
    assert reply.headers["content-type"].startswith("application/json")
    assert "date" in reply.headers
    [e] = arrived(agent, sink, 1)
    assert e["specversion"] == "1.0" and e["type"] == "order.placed" and e["subject"] == "u-7"
    assert e["source"] == "agent" and e["data"] == {"total": 89.95}
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", e["id"])
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$", e["time"])


def test_an_array(pair):
    agent, sink = pair
    assert agent.post([event(n) for n in range(50)]).json() == {"accepted": 50}
    assert [e["data"]["n"] for e in arrived(agent, sink, 50)] == list(range(50))


def test_an_empty_array_is_202_with_0(pair):
    agent, _ = pair
    reply = agent.post([])
    assert (reply.status, reply.json()) == (202, {"accepted": 0})


def test_ndjson(pair):
    agent, sink = pair
    body = "\n".join(json.dumps(event(n)) for n in range(3)) + "\n\n"
    reply = agent.request("POST", "/events", body, {"Content-Type": "application/x-ndjson"})
    assert (reply.status, reply.json()) == (202, {"accepted": 3})
    arrived(agent, sink, 3)


def test_structured_cloudevent(pair):
    agent, sink = pair
    given = {"specversion": "1.0", "id": "o-19", "source": "/shop/eu", "type": "com.acme.OrderPlaced", "subject": "u-7",
             "time": "2026-05-04T11:12:33.004+02:00", "sampledrate": 1, "myext": "kept",
             "data": {"total": 89.95, "items": [1, 2], "ship": {"days": 2}}}
    reply = agent.request("POST", "/events", json.dumps(given), {"Content-Type": "application/cloudevents+json; charset=utf-8"})
    assert (reply.status, reply.json()) == (202, {"accepted": 1})
    [e] = arrived(agent, sink, 1)
    assert e["id"] == "o-19" and e["source"] == "/shop/eu" and e["myext"] == "kept" and e["data"] == given["data"]


def test_cloudevents_batch(pair):
    agent, sink = pair
    body = json.dumps([{"specversion": "1.0", "id": f"a{i}", "source": "/s", "type": "t"} for i in range(4)])
    reply = agent.request("POST", "/events", body, {"Content-Type": "application/cloudevents-batch+json"})
    assert (reply.status, reply.json()) == (202, {"accepted": 4})
    arrived(agent, sink, 4)


def test_binary_cloudevent(pair):
    agent, sink = pair
    reply = agent.request("POST", "/events", '{"a":1}', {
        "ce-specversion": "1.0", "ce-id": "b-1", "ce-source": "/app", "ce-type": "login", "ce-subject": "Zo%C3%AB%207",
        "ce-sampledrate": "4", "Content-Type": "application/json"})
    assert (reply.status, reply.json()) == (202, {"accepted": 1})
    [e] = arrived(agent, sink, 1)
    assert e["id"] == "b-1" and e["subject"] == "Zoë 7" and e["data"] == {"a": 1} and e["sampledrate"] == 4


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded"])
def test_json_is_recognised_without_or_with_curls_content_type(pair, content_type):
    agent, sink = pair
    headers = {"Content-Type": content_type} if content_type else {}
    assert agent.request("POST", "/events", json.dumps(event(1)), headers).status == 202
    arrived(agent, sink, 1)


def test_numbers_keep_their_digits_and_data_its_bytes(pair):
    agent, sink = pair
    data = '{"big":12345678901234567890123,"price":0.10,"e":1E400,"text":"\\u00e9\\ud83d\\ude00 \\/","dup":1,"dup":2}'
    assert agent.post('{"type":"t","data":%s}' % data).status == 202
    agent.settled()
    assert data in sink.out_path.read_text()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "x-gzip"])
def test_encoded_bodies(pair, encoding):
    agent, sink = pair
    body = json.dumps([event(n) for n in range(200)]).encode()
    if encoding in ("gzip", "x-gzip"):
        body = gzip.compress(body)
    elif encoding == "deflate":
        body = zlib.compress(body)
    else:
        body = subprocess.run(["zstd", "-q", "-c"], input=body, capture_output=True, check=True).stdout
    reply = agent.request("POST", "/events", body, {"Content-Type": "application/json", "Content-Encoding": encoding})
    assert (reply.status, reply.json()) == (202, {"accepted": 200})
    arrived(agent, sink, 200)


def test_a_repeated_id_within_five_minutes_is_stored_once(pair):
    agent, sink = pair
    for _ in range(3):
        assert agent.post(event(7)).json() == {"accepted": 1}
    agent.settled()
    assert sink.stats()["events"] == 1


def test_same_id_other_content_is_another_event(pair):
    agent, sink = pair
    agent.post(event(7))
    agent.post({**event(7), "data": {"n": 8}})
    agent.settled()
    assert sink.stats()["events"] == 2


def test_ids_are_remembered_across_a_restart(pair):
    agent, sink = pair
    agent.post(event(7))
    agent.settled()
    agent.stop()
    agent.start()
    assert agent.post(event(7)).json() == {"accepted": 1}
    agent.settled()
    assert sink.stats()["events"] == 1


# --- events that cannot be taken -----------------------------------------------------------------------------

def test_some_bad_events_are_207_and_named(pair):
    agent, sink = pair
    reply = agent.post([event(0), {"data": {}}, event(2), {"type": "", "data": 1}, event(4)])
    assert reply.status == 207
    answer = reply.json()
    assert answer["accepted"] == 3
    assert [r["index"] for r in answer["rejected"]] == [1, 3]
    assert all(r["error"] for r in answer["rejected"])
    assert "type" in answer["rejected"][0]["error"]
    arrived(agent, sink, 3)


def test_only_bad_events_are_400_in_the_same_shape(pair):
    agent, _ = pair
    reply = agent.post([{"data": {}}, 7])
    assert reply.status == 400
    answer = reply.json()
    assert answer["accepted"] == 0 and [r["index"] for r in answer["rejected"]] == [0, 1]


@pytest.mark.parametrize("bad", [
    {"type": "t", "specversion": "0.3", "id": "1", "source": "/s"},
    {"type": "t", "sampleRate": 3},
    {"type": "t", "time": "yesterday"},
    {"type": "t", "sampledrate": 0},
    {"type": "t", "sampledrate": "4"},
    {"type": 7},
    {"type": "t", "id": ""},
    {"type": "t", "data": 1, "data_base64": "AA=="},
    {"type": "t", "ext": {"nested": 1}},
    {"type": "t", "ext": 1.5},
    {"type": "t", "ext": 4294967296},
])
def test_a_wrong_envelope_is_refused(pair, bad):
    agent, _ = pair
    reply = agent.post(bad)
    assert reply.status == 400, reply
    assert reply.json()["accepted"] == 0 and reply.json()["rejected"][0]["index"] == 0


@pytest.mark.parametrize("body", [
    b'{"type":"t","type":"u"}', b'{"type":"t"', b'nonsense', b'{"type":"t","data":{"a":01}}', b'{"type":"\\ud800"}',
    b'{"type":"t","data":"\\udc00"}', b'{"type":"\xff"}', b'', b'[{"type":"t"},]', b'{"type":"t"} x',
    b'{"type":"t","data":' + b'[' * 200 + b']' * 200 + b'}',
])
def test_malformed_json_is_400(pair, body):
    agent, _ = pair
    reply = agent.post(body)
    assert reply.status == 400, reply
    assert reply.headers["content-type"].startswith("application/json")
    reply.json()


def test_a_malformed_ndjson_line_does_not_hurt_its_neighbours(pair):
    agent, sink = pair
    body = json.dumps(event(0)) + "\n{oops\n" + json.dumps(event(2)) + "\n"
    reply = agent.request("POST", "/events", body, {"Content-Type": "application/x-ndjson"})
    assert reply.status == 207 and reply.json()["accepted"] == 2 and reply.json()["rejected"][0]["index"] == 1
    arrived(agent, sink, 2)


def test_more_than_10000_events_are_413(pair):
    agent, _ = pair
    body = "[" + ",".join(['{"type":"t"}'] * 10001) + "]"
    reply = agent.post(body)
    assert reply.status == 413 and reply.json()["error"]["code"] == "too_large"
    assert agent.metric("penstock_events_accepted_total", output="up") == 0
    assert agent.metric("penstock_events_rejected_total", input="http", reason="malformed") == 0
    assert agent.metric("penstock_events_rejected_total", input="http", reason="too_large") == 10000


def test_10000_events_are_taken(pair):
    agent, sink = pair
    body = "[" + ",".join('{"type":"t","data":%d}' % i for i in range(10000)) + "]"
    assert agent.post(body).json() == {"accepted": 10000}
    agent.settled()
    assert sink.stats()["unique"] == 10000


def test_an_event_over_its_limit_alone_is_413_among_others_207(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http", limits={"event_bytes": "10KB"})})
    assert agent.post(event(1, size=20000)).status == 413
    reply = agent.post([event(2), event(3, size=20000)])
    assert reply.status == 207 and reply.json()["rejected"][0]["index"] == 1
    assert reply.json()["rejected"][0]["error"].startswith("too_large: larger than"), reply
    assert agent.metric("penstock_events_rejected_total", input="http", reason="too_large") == 2


def test_unsupported_types_encodings_and_charsets_are_415(pair):
    agent, _ = pair
    for headers in ({"Content-Type": "text/html"}, {"Content-Type": "application/cloudevents+avro"},
                    {"Content-Type": "application/json; charset=latin1"},
                    {"Content-Type": "application/json", "Content-Encoding": "br"}):
        reply = agent.request("POST", "/events", '{"type":"t"}', headers)
        assert reply.status == 415, (headers, reply)
        assert reply.json()["error"]["code"]


def test_damaged_compression_is_400_and_counted(pair):
    agent, _ = pair
    reply = agent.request("POST", "/events", gzip.compress(b'{"type":"t"}')[:-6],
                          {"Content-Type": "application/json", "Content-Encoding": "gzip"})
    assert reply.status == 400
    assert agent.metric("penstock_events_rejected_total", input="http", reason="bad_compression") == 1


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_413_and_costs_no_memory(pair, encoding):
    agent, _ = pair
    plain = b" " * (200 << 20)
    if encoding == "gzip":
        bomb = gzip.compress(plain, 9)
    else:
        bomb = subprocess.run(["zstd", "-q", "-c", "-19"], input=plain, capture_output=True, check=True).stdout
    reply = agent.request("POST", "/events", bomb, {"Content-Type": "application/json", "Content-Encoding": encoding})
    assert reply.status == 413
    peak = int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{agent.process.pid}/status").read()).group(1))
    assert peak < 64 * 1024 or "asan" in str(open(f"/proc/{agent.process.pid}/maps").read())


def test_no_route_is_said(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output("http"), "b": sink.output("http", "/b")},
                        routes=[{"when": {"type": "known.*"}, "to": ["a"]}])
    reply = agent.post(event(1))
    assert reply.status == 400 and reply.json()["rejected"][0]["error"].startswith("no_route: "), reply
    reply = agent.post([event(2), event(3, "known.thing")])
    assert reply.status == 207 and reply.json()["rejected"][0]["index"] == 0
    assert agent.metric("penstock_events_rejected_total", input="http", reason="no_route") == 2


def test_an_event_for_two_outputs_reaches_both(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output("http", "/a"), "b": sink.output("cloudevents")}, routes=[{"to": ["a", "b"]}])
    assert agent.post([event(n) for n in range(10)]).json() == {"accepted": 10}
    agent.settled()
    stats = sink.check()
    assert stats["apis"]["http"]["unique"] == 10 and stats["apis"]["cloudevents"]["unique"] == 10


def test_the_answer_waits_for_the_disk_not_for_the_upstream(world):
    sink = world.sink(args=["--respond", "delay=1s"])
    agent = world.agent({"up": sink.output("http")})
    begun = time.monotonic()
    assert agent.post(event(1)).status == 202
    assert agent.ledger("up")["pending"] == 1 or time.monotonic() - begun > 1
    until(lambda: agent.ledger("up")["delivered"] == 1, "delivered")
