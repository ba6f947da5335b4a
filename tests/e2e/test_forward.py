"""The Fluentd forward protocol on the Unix stream input, by a client of its own."""
import base64
import gzip
import hashlib
import json
import os
import random
import shutil
import socket
import struct
import subprocess

import pytest

from harness import Wire, until


# --- msgpack, as much as a sender needs ---------------------------------------------------------------------------

class Ext(bytes):
    """An ext of type 0: EventTime."""


def event_time(sec, nsec=0):
    return Ext(struct.pack(">II", sec, nsec))


class Str(bytes):
    """Bytes that are sent as a str."""


def pack(v):
    if v is None:
        return b"\xc0"
    if isinstance(v, bool):
        return b"\xc3" if v else b"\xc2"
    if isinstance(v, Ext):
        return b"\xd7\x00" + v
    if isinstance(v, float):
        return b"\xcb" + struct.pack(">d", v)
    if isinstance(v, int):
        if 0 <= v < 128:
            return bytes([v])
        return b"\xcf" + struct.pack(">Q", v) if v >= 0 else b"\xd3" + struct.pack(">q", v)
    if isinstance(v, Str):
        return b"\xdb" + struct.pack(">I", len(v)) + v
    if isinstance(v, str):
        raw = v.encode()
        return (bytes([0xA0 | len(raw)]) if len(raw) < 32 else b"\xdb" + struct.pack(">I", len(raw))) + raw
    if isinstance(v, bytes):
        return b"\xc6" + struct.pack(">I", len(v)) + v
    if isinstance(v, (list, tuple)):
        head = bytes([0x90 | len(v)]) if len(v) < 16 else b"\xdd" + struct.pack(">I", len(v))
        return head + b"".join(map(pack, v))
    head = bytes([0x80 | len(v)]) if len(v) < 16 else b"\xdf" + struct.pack(">I", len(v))
    return head + b"".join(pack(k) + pack(x) for k, x in v.items())


def unpack(read):
    """One value; `read(n)` gives exactly n bytes."""
    b = read(1)[0]
    if b < 0x80:
        return b
    if b >> 4 == 8:
        return {unpack(read): unpack(read) for _ in range(b & 15)}
    if b >> 4 == 9:
        return [unpack(read) for _ in range(b & 15)]
    if b >> 5 == 5:
        return read(b & 31).decode()
    if b in (0xC2, 0xC3):
        return b == 0xC3
    sizes = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
    raw = read(int.from_bytes(read(sizes[b]), "big"))
    return raw if b < 0xD0 else raw.decode()


class Client(Wire):
    def send(self, *message):
        return self.say(pack(list(message)))

    def value(self):
        return unpack(self.exactly)

    def ack(self, chunk):
        assert self.value() == {"ack": chunk}


def agent_with(world, sink, **more):
    path = str(world.dir / "fwd.sock")
    agent = world.agent({"a": sink.output("cloudevents")}, inputs={"in": {"type": "unix", "path": path, **more}})
    agent.connect = lambda timeout=15.0: Client(path, timeout=timeout)
    agent.rejected = lambda reason: agent.metric("penstock_events_rejected_total", input="in", reason=reason)
    return agent


def chunk_id():
    return base64.b64encode(os.urandom(16)).decode()


def entries(n, first=0):
    return [[event_time(1777885953, 4_000_000), {"log": "hi", "n": first + i}] for i in range(n)]


def packed(items):
    return b"".join(map(pack, items))


def events_of(sink):
    return [l["event"] for l in sink.received()]


def numbers(sink):
    return sorted(e["data"]["n"] for e in events_of(sink))


# --- modes ----------------------------------------------------------------------------------------------------------

def test_all_modes_are_stored_and_acknowledged(world):
    sink = world.sink()
    agent = agent_with(world, sink)
    gz = gzip.compress(packed(entries(3, 7))) + gzip.compress(packed(entries(3, 10)))  # two members
    with agent.connect() as c:
        c.send("app.web", event_time(1777885953, 4_000_000), {"log": "hi", "n": 0}, {"chunk": "c1"}).ack("c1")
        c.send("app.web", 1777885953, {"log": "hi", "n": 1}, {"chunk": "c2\n"}).ack("c2\n")
        c.send("app.web", entries(2, 2), {"chunk": "c3"}).ack("c3")
        c.send("app.web", packed(entries(3, 4)), {"chunk": "c4", "size": 3}).ack("c4")
        c.send("app.web", gz, {"chunk": "c5", "compressed": "gzip"}).ack("c5")
        c.send("app.web", Str(packed(entries(1, 13))), {"chunk": "c6"}).ack("c6")
        assert agent.ledger("a")["accepted"] == 14
    agent.settled()
    assert numbers(sink) == list(range(14))
    first = next(e for e in events_of(sink) if e["data"]["n"] == 0)
    assert first["type"] == "app.web" and first["source"] == "agent"
    assert first["time"] == "2026-05-04T09:12:33.004Z" and first["data"] == {"log": "hi", "n": 0}
    assert len({e["id"] for e in events_of(sink)}) == 14
    sink.check()


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the zstd command")
def test_zstd(world):
    sink = world.sink()
    agent = agent_with(world, sink)
    body = subprocess.run(["zstd", "-c"], input=packed(entries(50)), capture_output=True, check=True).stdout
    with agent.connect() as c:
        c.send("t", body, {"chunk": "z", "compressed": "zstd"}).ack("z")
        c.send("t", body, {"chunk": "y", "compressed": "gzip"}).ack("y")  # the bytes are believed
    agent.settled()
    assert numbers(sink) == sorted(list(range(50)) * 2)


def test_without_a_chunk_nothing_is_answered(world):
    sink = world.sink()
    agent = agent_with(world, sink)
    with agent.connect() as c:
        c.say(b"\xc0")  # a keep-alive
        c.send("t", entries(2)).send("t", 5, {"n": 2}).send("t", 5, {"n": 3}, None).send("t", 5, {"n": 4}, {})
        c.sock.shutdown(socket.SHUT_WR)
        assert c.ended()
    agent.settled()
    assert numbers(sink) == [0, 1, 2, 3, 4]


def test_pipelined_chunks_are_acknowledged_in_order(world):
    sink = world.sink()
    agent = agent_with(world, sink)
    ids = [chunk_id() for _ in range(300)]
    with agent.connect() as c:
        c.say(b"".join(pack(["t", entries(2, 2 * i), {"chunk": id_}]) for i, id_ in enumerate(ids)))
        for id_ in ids:
            c.ack(id_)
    agent.settled()
    assert numbers(sink) == list(range(600))


def test_bytes_one_by_one(world):
    sink = world.sink()
    agent = agent_with(world, sink)
    with agent.connect() as c:
        for b in pack(["t", packed(entries(2)), {"chunk": "x"}]):
            c.say(bytes([b]))
        c.ack("x")


def test_json_with_acks_in_json(world):
    sink = world.sink()
    agent = agent_with(world, sink)
    with agent.connect() as c:
        c.say('["t",1777885953,{"n":1},{"chunk":"a\\n"}]["t",[[0,{"n":2}],[1777885953,{"n":3}]],{"chunk":"b"}]\n')
        assert json.loads(c.exactly(len('{"ack":"a\\n"}'))) == {"ack": "a\n"}
        c.buffer = c.buffer.lstrip()
        assert json.loads(c.exactly(len('{"ack":"b"}'))) == {"ack": "b"}
    agent.settled()
    assert numbers(sink) == [1, 2, 3]


def test_a_large_message_goes_in_slices_and_one_ack(world):
    sink = world.sink()
    agent = agent_with(world, sink)
    big = [[0, {"n": i, "pad": "x" * (200_000 if i % 500 == 0 else 300)}] for i in range(3000)]
    with agent.connect(timeout=60) as c:
        c.send("t", gzip.compress(packed(big)), {"chunk": "big", "compressed": "gzip"}).ack("big")
        assert agent.ledger("a")["accepted"] == 3000
    agent.settled()
    assert numbers(sink) == list(range(3000))


# --- repeats ------------------------------------------------------------------------------------------------------------

def test_a_repeated_chunk_is_acknowledged_and_stored_once(world):
    sink = world.sink()
    agent = agent_with(world, sink).explain("recover")
    message = ["t", packed(entries(5)), {"chunk": "again"}]
    with agent.connect() as c, agent.connect() as d:
        c.say(pack(message) * 3)  # in one read
        for _ in range(3):
            c.ack("again")
        d.send(*message).ack("again")
        d.send("other", packed(entries(1, 5)), {"chunk": "again"}).ack("again")  # another tag, another chunk
    assert agent.ledger("a")["accepted"] == 6
    agent.kill()
    agent.start()
    with agent.connect() as c:  # the memory of chunks is gone, that of ids is not
        c.send(*message).ack("again")
    assert agent.ledger("a")["accepted"] == 6
    agent.settled()
    assert numbers(sink) == list(range(6))


def test_what_was_acknowledged_survives_kill_9(world):
    sink = world.sink()
    agent = agent_with(world, sink).explain("recover")
    for round_ in range(8):
        with agent.connect() as c:
            for i in range(3):
                id_ = f"{round_}-{i}"
                c.send("t", packed(entries(20, round_ * 60 + i * 20)), {"chunk": id_}).ack(id_)
            agent.kill()
        agent.start()
    agent.settled()
    assert sorted(set(numbers(sink))) == list(range(480))  # a batch may go twice, with the same ids


# --- what can never be valid ------------------------------------------------------------------------------------------------

def test_bad_entries_are_counted_and_the_message_is_acknowledged(world):
    sink = world.sink()
    agent = agent_with(world, sink)
    mixed = [entries(1)[0], [1, "no record"], ["no time", {"n": 9}], [1, {"n": 1}], "no entry"]
    with agent.connect() as c:
        c.send("t", mixed, {"chunk": "m"}).ack("m")
        assert agent.rejected("malformed") == 3
        c.send("", 1, {"n": 9}, {"chunk": "tag"}).ack("tag")
        c.send("t", packed(entries(1)), {"chunk": "sig", "fluent_signal": 1}).ack("sig")
        c.send("t", b"\x1f\x8bnot gzip", {"chunk": "gz", "compressed": "gzip"}).ack("gz")
        c.send("t", packed(entries(1)), {"chunk": "lz", "compressed": "lz4"}).ack("lz")
    assert agent.rejected("malformed") == 4
    assert agent.rejected("unsupported_signal") >= 1
    assert agent.rejected("bad_compression") == 2
    agent.settled()
    assert numbers(sink) == [0, 1]


def test_broken_framing_ends_the_connection_after_what_came_before(world):
    sink = world.sink()
    agent = agent_with(world, sink)
    with agent.connect() as c:
        c.say(pack(["t", entries(1), {"chunk": "ok"}]) + b"\x94\xc1")
        c.ack("ok")
        assert c.ended()
    assert agent.rejected("malformed") == 1


def test_an_unfinished_message_is_counted(world):
    sink = world.sink()
    agent = agent_with(world, sink)
    with agent.connect() as c:
        c.say(pack(["t", entries(3)])[:-2])
    until(lambda: agent.rejected("truncated") == 1, "it is counted")


def test_a_message_over_the_limit_names_the_setting(world):
    sink = world.sink()
    agent = agent_with(world, sink, max_body="64KiB").explain("max_body")
    with agent.connect() as c:
        try:
            c.say(pack(["t", b"x" * 100_000, {"chunk": "x"}]))
            assert c.ended()
        except (BrokenPipeError, ConnectionResetError):
            pass
    until(lambda: agent.rejected("too_large") == 1, "it is counted")
    assert "max_body" in agent.process.err()


# --- events -----------------------------------------------------------------------------------------------------------------

def test_docker_and_subjects(world):
    sink = world.sink()
    agent = agent_with(world, sink, subject_field="user")
    with agent.connect() as c:
        c.send("0123456789ab", 1777885953, {"container_id": "0123", "container_name": "/web", "source": "stdout",
                                            "log": Str(b"caf\xff")}, {"chunk": "d"}).ack("d")
        c.send("t", 1, {"user": "ada"}, {"chunk": "s"}).ack("s")
        c.send("t", 1, {"user": 42, "f": float("nan"), "b": b"\xff\xfe", "t": event_time(0, 5), 7: None},
               {"chunk": "n"}).ack("n")
    agent.settled()
    docker, ada, number = sorted(events_of(sink), key=lambda e: ("user" in e["data"], str(e.get("subject")) != "ada"))
    assert docker["source"] == "docker/web" and docker["data"]["log"] == "caf\ufffd"
    assert ada["subject"] == "ada" and number["subject"] == "42"
    assert number["data"]["f"] is None and number["data"]["b"] == {"$base64": "//4="} and number["data"]["7"] is None
    sink.check()


# --- the handshake ------------------------------------------------------------------------------------------------------------

def digest(*parts):
    return hashlib.sha512(b"".join(parts)).hexdigest()


def raw(v):
    return v if isinstance(v, bytes) else v.encode()


def greet(c, key=b"secret", user="", password=b""):
    kind, options = c.value()
    assert kind == "HELO" and options["keepalive"] is True
    salt = os.urandom(16)
    nonce, auth = raw(options["nonce"]), raw(options["auth"])
    c.send("PING", "client", salt, digest(salt, b"client", nonce, key), user,
           digest(auth, user.encode(), password) if user else "")
    pong = c.value()
    if pong[1]:
        assert pong[0] == "PONG" and pong[4] == digest(salt, pong[3].encode(), nonce, b"secret")
    return pong[1]


def test_the_handshake(world):
    sink = world.sink()
    agent = agent_with(world, sink, forward={"shared_key": "secret", "users": {"ada": "pass"}})
    agent.explain("the sender with pid")
    with agent.connect() as c:
        assert greet(c, user="ada", password=b"pass") is True
        c.send("t", entries(1), {"chunk": "x"}).ack("x")
    for wrong in ({"key": b"wrong", "user": "ada", "password": b"pass"}, {"user": "ada", "password": b"no"}, {"user": "eve"}):
        with agent.connect() as c:
            assert greet(c, **wrong) is False
            assert c.ended()
    with agent.connect() as c:  # events before the handshake
        c.value()
        c.send("t", entries(1), {"chunk": "x"})
        assert c.ended()
    with agent.connect() as c:  # NDJSON
        c.value()
        c.say('{"type":"a"}\n')
        assert b"unauthorized" in c.line()
    assert agent.rejected("unauthorized") == 5
    agent.settled()
    assert numbers(sink) == [0]


def test_a_ping_that_nobody_asked_for(world):
    agent = agent_with(world, world.sink())
    with agent.connect() as c:
        c.send("PING", "client", b"salt", "0" * 128, "", "")
        assert c.value()[:2] == ["PONG", False]
        assert c.ended()


# --- memory ---------------------------------------------------------------------------------------------------------

def test_halves_of_large_messages_have_one_bound_and_all_arrive(world):
    """Twelve senders of 3 MB each at once: far less is taken than they want to send, then one after the other gets
    done, while a small message of somebody else gets through at any time."""
    senders, entries_each, size = 12, 30, 100_000
    sink = world.sink()
    agent = agent_with(world, sink)
    path = str(world.dir / "fwd.sock")
    socks, left = [], []
    for s in range(senders):
        items = [[1777885953, {"n": s * entries_each + i, "pad": "x" * size}] for i in range(entries_each)]
        left.append(memoryview(pack(["t", packed(items), {"chunk": f"s{s}"}])))
        socks.append(socket.socket(socket.AF_UNIX))
        socks[-1].connect(path)
        socks[-1].setblocking(False)
    sent = [0] * senders

    def push(s, most):
        try:
            while sent[s] < most:
                sent[s] += socks[s].send(left[s][sent[s]:min(most, sent[s] + 65536)])
        except BlockingIOError:
            pass

    def halves():
        for s in range(senders):
            push(s, len(left[s]) - 1)  # the last byte is kept back: none is whole
        return agent.status()["inputs"][0]["paused"] > 0

    until(halves, "the bound to be reached")
    for _ in range(20):
        halves()
    assert sum(sent) < 16_000_000, "more than the bound, one message and the sockets' own buffers was taken"
    with agent.connect() as c:
        c.send("t", 5, {"n": 100_000}, {"chunk": "small"}).ack("small")
    acked = set()

    def all_acked():
        for s in range(senders):
            push(s, len(left[s]))
            try:
                if s not in acked and socks[s].recv(100):
                    acked.add(s)
            except BlockingIOError:
                pass
        return len(acked) == senders

    until(all_acked, "all acks", timeout=120)
    agent.settled()
    assert numbers(sink) == sorted([*range(senders * entries_each), 100_000])
    assert agent.metric("penstock_input_paused_total", input="in") > 0
    for s in socks:
        s.close()


# --- hostile senders ------------------------------------------------------------------------------------------------

def test_mutated_messages_end_at_most_their_own_connection(world):
    """Bytes changed, cut out and put in at random, in both encodings and in lines: each connection is answered or
    closed, none hangs, and a decent sender's events arrive."""
    sink = world.sink()
    agent = agent_with(world, sink)
    r = random.Random(7)
    decent = [pack(["t", 5, {"n": 1}, {"chunk": "a"}]), pack(["t", packed(entries(3)), {"chunk": "b"}]),
              pack(["t", entries(2), {"chunk": "c"}]), b'["t",1,{"n":5},{"chunk":"x"}]',
              pack(["t", gzip.compress(packed(entries(5))), {"chunk": "d", "compressed": "gzip"}]),
              b'{"type":"a","data":{"n":1}}\n{"penstock":"ack"}\n']
    for _ in range(400):
        data = bytearray(r.choice(decent) * r.randint(1, 3))
        for _ in range(r.randint(1, 4)):
            at = r.randrange(len(data))
            way = r.randrange(4)
            if way == 0:
                data[at] = r.randrange(256)
            elif way == 1:
                data[at:at + r.randint(1, 20)] = b"["
            elif way == 2:
                data[at:at] = bytes(r.randrange(256) for _ in range(r.randint(1, 9)))
            else:
                del data[at + 1:]
        with agent.connect() as c:
            try:
                c.say(bytes(data))
                c.sock.shutdown(socket.SHUT_WR)
                while c.sock.recv(65536):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                pass
    with agent.connect() as c:
        c.send("t", 5, {"n": 424_242}, {"chunk": "last"}).ack("last")
    agent.settled()
    assert 424_242 in [e["data"]["n"] for e in events_of(sink) if isinstance(e["data"], dict) and "n" in e["data"]]


def test_a_tag_that_is_not_utf8_is_counted_and_acknowledged(world):
    sink = world.sink()
    agent = agent_with(world, sink)
    with agent.connect() as c:
        c.send(Str(b"\xf0"), 5, {"n": 1}, {"chunk": "k"}).ack("k")
        c.send("t", 5, {"n": 2}, {"chunk": "l"}).ack("l")
    agent.settled()
    assert numbers(sink) == [2] and agent.rejected("malformed") == 1


def test_metadata_counts_as_a_level_of_the_event(world):
    sink = world.sink()
    agent = agent_with(world, sink)
    deep = {"x": 1}
    for _ in range(63):
        deep = {"a": deep}
    with agent.connect() as c:
        c.send("t", 5, {"n": 1}, {"chunk": "k", "metadata": deep}).ack("k")
        c.send("t", 5, {"n": 2}, {"chunk": "l", "metadata": deep["a"]}).ack("l")
    agent.settled()
    assert numbers(sink) == [2] and agent.rejected("malformed") == 1
