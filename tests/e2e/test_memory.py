"""What the agent takes in memory: many large requests at once, to four outputs, among idle and busy connections. Every
event that was answered for arrives once; nobody is refused for being large."""
import gzip
import json
import threading

import pytest

from harness import PENSTOCK, PATIENCE, Wire, event, run, until

MIB = 1024 * 1024
CEILING_KIB = 64 * 1024
SANITIZED = "sanitize" in run([PENSTOCK, "version"]).stdout


def peak_kib(agent):
    return next(int(l.split()[1]) for l in open(f"/proc/{agent.process.pid}/status") if l.startswith("VmHWM"))


def four_outputs(world, **more):
    sinks = [world.sink(name=f"sink-{name}", out=False) for name in "abcd"]
    agent = world.agent({name: sink.output() for name, sink in zip("abcd", sinks)}, routes=[{"to": list("abcd")}], start=False)
    agent.http_input(max_connections=1200, request_timeout="120s", **more)
    return agent.start(), sinks


def body_of(name, megabytes, pad):
    """A JSON array of about so many megabytes, and how many events are in it."""
    one = len(json.dumps(event(f"{name}-00000", size=pad), separators=(",", ":"))) + 1
    count = int(megabytes * 1e6) // one
    return json.dumps([event(f"{name}-{n}", size=pad) for n in range(count)], separators=(",", ":")).encode(), count


class Senders:
    """Each posts its bodies until each is answered with 202, and counts what was."""

    def __init__(self, agent):
        self.agent, self.accepted, self.answers, self.lock, self.threads = agent, 0, {}, threading.Lock(), []

    def post(self, wire, body, count):
        while True:
            wire.request("POST", "/events", body, {"Content-Type": "application/json"})
            reply = wire.reply()
            assert reply is not None
            with self.lock:
                self.answers[reply.status] = self.answers.get(reply.status, 0) + 1
                self.accepted += count if reply.status == 202 else 0
            if reply.status != 429:
                return

    def send(self, name, rounds, megabytes, pad):
        with Wire(self.agent.address, timeout=180) as wire:
            for n in range(rounds):
                self.post(wire, *body_of(f"{name}-{n}", megabytes, pad))

    def start(self, *args):
        self.threads.append(threading.Thread(target=self.send, args=args, daemon=True))
        self.threads[-1].start()

    def join(self):
        for t in self.threads:
            t.join(240 * PATIENCE)
            assert not t.is_alive()


def test_large_requests_stay_within_the_ceiling(world):
    agent, sinks = four_outputs(world)
    idle = [Wire(agent.address, timeout=180) for _ in range(1000)]
    until(lambda: agent.status()["inputs"][0]["connections"] == 1000, "all are connected", timeout=30)
    senders = Senders(agent)
    for n in range(24):
        senders.start(f"large{n}", 1, 7.8, 6000)
    for n in range(64):
        senders.start(f"busy{n}", 4, 0.06, 700)
    senders.join()
    assert set(senders.answers) <= {202, 429}, senders.answers  # full is said to small ones at most
    agent.settled(timeout=120)
    for sink in sinks:
        sink.check(unique=senders.accepted)
    peak = peak_kib(agent)
    print(f"peak {peak / 1024:.1f} MiB, answers {senders.answers}")
    assert SANITIZED or peak <= CEILING_KIB
    for wire in idle:
        wire.close()


@pytest.mark.parametrize("kind", ["plain", "gzip", "chunked", "lines", "tiny"])
def test_every_shape_of_a_large_request_is_taken_whole(world, kind):
    agent, sinks = four_outputs(world)
    body, count = body_of(kind, 9.9 if kind != "tiny" else 0.2, 2400 if kind != "tiny" else 0)
    headers = {"Content-Type": "application/json"}
    if kind == "gzip":
        # Not too dull, or it is taken for a bomb.
        noise = [event(n, size=0, subject="".join(f"{(n * 7919 + i * 104729) % 9973:x}" for i in range(60))) for n in range(9000)]
        body, count = gzip.compress(json.dumps(noise).encode()), len(noise)
        headers["Content-Encoding"] = "gzip"
    if kind == "lines":
        body = b"\n".join(json.dumps(e).encode() for e in json.loads(body))[:10 * MIB]
        body = body[:body.rindex(b"\n")]
        count, headers["Content-Type"] = body.count(b"\n") + 1, "application/x-ndjson"
    if kind == "tiny":
        body, count = b"[" + b",".join([b'{"type":"t"}'] * 10000) + b"]", 10000
    if kind == "chunked":
        body = b"".join(b"%x\r\n%b\r\n" % (len(body[i:i + 50000]), body[i:i + 50000]) for i in range(0, len(body), 50000)) + b"0\r\n\r\n"
        head = "POST /events HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        with Wire(agent.address, timeout=60) as wire:
            wire.say(head.encode() + body)
            reply = wire.reply()
    else:
        reply = agent.request("POST", "/events", body, headers, timeout=60)
    assert reply.status == 202 and reply.json() == {"accepted": count}, reply
    agent.settled(timeout=60)
    for sink in sinks:
        sink.check(unique=count)
    assert SANITIZED or peak_kib(agent) <= CEILING_KIB


def test_what_is_wrong_in_a_large_request_is_said_of_each_event(world):
    agent, sinks = four_outputs(world)
    events = [event(n, size=900) for n in range(5000)]
    for n in (0, 1234, 4999):
        del events[n]["type"]
    events[77]["data"]["pad"] = "x" * (2 * MIB + 1)
    reply = agent.request("POST", "/events", json.dumps(events), {"Content-Type": "application/json"}, timeout=60)
    assert reply.status == 207 and reply.json()["accepted"] == 4996
    assert [r["index"] for r in reply.json()["rejected"]] == [0, 77, 1234, 4999]
    assert agent.metric("penstock_events_received_total", input="http") == 5000
    assert agent.metric("penstock_events_rejected_total", input="http", reason="malformed") == 3
    assert agent.metric("penstock_events_rejected_total", input="http", reason="too_large") == 1
    reply = agent.request("POST", "/events", json.dumps(events)[:-1], {"Content-Type": "application/json"}, timeout=60)
    assert reply.status == 400 and reply.json()["error"]["code"] == "invalid_json"
    again = agent.request("POST", "/events", json.dumps(events), {"Content-Type": "application/json"}, timeout=60)
    assert again.status == 207
    agent.settled(timeout=60)
    for sink in sinks:
        sink.check(unique=4996)


@pytest.mark.parametrize("line, count", [("x" * 100, 5000), ("x" * 600000, 1), ('{"x":"' + "y" * 600000 + '"}', 2)],
                         ids=["many", "one", "an_object"])  # made of the lines, they would be too long for an environment
def test_a_piece_of_which_nothing_can_be_taken_is_behind_us(world, line, count):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")})
    reply = agent.request("POST", "/events", f"{line}\n" * count, {"Content-Type": "application/x-ndjson"})
    assert reply.status == 400 and len(reply.json()["rejected"]) == count, reply
    good = '{"type":"t"}\n'
    reply = agent.request("POST", "/events", good + f"{line}\n" * count + good, {"Content-Type": "application/x-ndjson"})
    assert reply.status == 207 and reply.json()["accepted"] == 2, reply


def test_a_backlog_of_large_requests_is_drained_within_the_ceiling(world):
    """An OTLP request is one record: it goes to one output after the other, each has one of them in memory, and reads no
    other until that is gone."""
    sinks = [world.sink(name=f"sink-{name}", out=False, tls=True) for name in "abcd"]
    agent = world.agent({name: sink.output("otlp") for name, sink in zip("abcd", sinks)}).explain("note", "otlp")
    for name in "abcd":
        agent.admin("POST", f"/outputs/{name}/pause")
    for n in range(4):
        span = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": f"{n + 1:016x}", "name": "span " * 1_560_000}
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
        assert agent.request("POST", "/v1/traces", body, {"Content-Type": "application/json"}, timeout=60).status == 200
    taken = peak_kib(agent)
    print(f"peak while taking them {taken / 1024:.1f} MiB")
    assert SANITIZED or taken <= CEILING_KIB
    agent.kill()
    agent.start()
    agent.settled(timeout=60)
    for sink in sinks:
        sink.check(unique=4)
    print(f"peak {peak_kib(agent) / 1024:.1f} MiB")
    assert SANITIZED or peak_kib(agent) <= CEILING_KIB


def test_a_large_request_that_has_no_room_everywhere_is_stored_nowhere(world):
    sinks = [world.sink(name=f"sink-{name}", out=False) for name in "ab"]
    outputs = {name: sink.output() for name, sink in zip("ab", sinks)}
    outputs["b"]["spool"] = {"max_bytes": "4MiB"}
    agent = world.agent(outputs, routes=[{"to": ["a", "b"]}]).explain("outputs.b: events over", "a sixteenth of max_bytes")
    body, _ = body_of("n", 7, 2000)
    reply = agent.request("POST", "/events", body, {"Content-Type": "application/json"}, timeout=60)
    assert reply.status == 429 or reply.status == 413, reply
    assert agent.ledger("a")["accepted"] == 0 and agent.ledger("b")["accepted"] == 0
    assert agent.post([event(n) for n in range(10)]).status == 202
    agent.settled()
    for sink in sinks:
        sink.check(unique=10)
