"""`penstock tap`: events as they are accepted, without slowing anything."""
import json
import socket

from harness import PENSTOCK, Process, event, run, until


def lines(process):
    return [json.loads(l) for l in process.out().splitlines()]


def test_events_whole_and_by_output(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output(), "b": sink.output("http", path="/b")},
                        routes=[{"when": {"type": "both"}, "to": ["a", "b"]}, {"to": ["a"]}])
    process = Process(world, "tap", [PENSTOCK, "tap", "--admin", f"127.0.0.1:{agent.admin_port}", "--limit", "2"])
    n = 0
    def ended():
        nonlocal n
        n += 1
        assert agent.post([event(n, type_="both", subject="käse"), {"type": "one", "data": "x\ny"}]).status == 202
        return not process.alive()
    until(ended, "the tap has had its two")
    assert process.wait() == 0
    both, one = lines(process)
    assert both["outputs"] == ["a", "b"] and both["type"] == "both" and both["input"] == "http"
    assert both["event"]["subject"] == "käse" and both["event"]["specversion"] == "1.0"
    assert one["outputs"] == ["a"] and one["event"]["data"] == "x\ny"
    agent.settled()


def test_filters(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output(), "b": sink.output("http", path="/b")},
                        routes=[{"when": {"type": "b.*"}, "to": ["b"]}, {"to": ["a"]}])
    for args, good in ((["--output", "b"], {"b.x"}), (["--type", "a.?"], {"a.1"}), (["--type", "*x"], {"b.x"})):
        process = Process(world, "tap", [PENSTOCK, "tap", "--admin", f"127.0.0.1:{agent.admin_port}", "--limit", "3", *args])
        def ended():
            assert agent.post([{"type": "a.1"}, {"type": "a.22"}, {"type": "b.x"}]).status == 202
            return not process.alive()
        until(ended, "the tap has had its three")
        assert {l["type"] for l in lines(process)} == good
    done = run([PENSTOCK, "tap", "--admin", f"127.0.0.1:{agent.admin_port}", "--output", "c"])
    assert done.returncode == 64 and "no output has this name" in done.stderr
    agent.settled()


def test_vendor_elements_as_they_go_on_the_wire(world):
    sink = world.sink()
    agent = world.agent({"m": sink.output("monk")})
    process = Process(world, "tap", [PENSTOCK, "tap", "--admin", f"127.0.0.1:{agent.admin_port}", "--limit", "1"])
    n = 0
    def ended():
        nonlocal n
        n += 1
        body = {"eventName": "click", "customerId": "c", "idempotencyKey": f"k{n}", "timestamp": "2026-01-02T03:04:05Z"}
        reply = agent.post(body, path="/v1/events")
        assert reply.status == 202, reply
        return not process.alive()
    until(ended, "the tap has had its one")
    shown = lines(process)[0]
    assert shown["api"] == "monk" and shown["event"]["idempotencyKey"].startswith("k")
    agent.settled()


def test_a_slow_reader_misses_some_and_slows_nobody(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output()})
    with socket.create_connection(("127.0.0.1", agent.admin_port)) as slow:
        slow.sendall(b"GET /tap HTTP/1.1\r\nHost: x\r\n\r\n")
        slow.settimeout(20)
        assert slow.recv(15) == b"HTTP/1.1 200 OK"
        for i in range(60):  # 60 times 512 KiB
            assert agent.post([event(i * 1000 + k, size=8000) for k in range(64)]).status == 202
        agent.settled()
        tail, told, n = b"", False, 10_000_000
        while not told:
            try:
                slow.settimeout(0.05)
                tail = tail[-100:] + slow.recv(1 << 20)
                told = b'{"tap":{"left_out":' in tail
            except TimeoutError:  # all is read: the next event brings the count along
                n += 1
                assert agent.post(event(n)).status == 202
    agent.settled()
    sink.check()


def test_it_ends_with_the_agent(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output()})
    process = Process(world, "tap", [PENSTOCK, "tap", "-c", str(agent.path)])
    n = 0
    def shown():
        nonlocal n
        n += 1
        assert agent.post(event(n)).status == 202
        return lines(process)
    until(shown, "the tap shows events")
    agent.stop()
    assert process.wait() == 0
    assert run([PENSTOCK, "tap", "-c", str(agent.path)]).returncode == 69
