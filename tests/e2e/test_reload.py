"""Reload: the new configuration is judged whole beside the old, and switched to in one step."""
import json
import os
import random
import signal
import socket
import threading

import pytest
from front import Front, carry, reset_when_taken
from harness import Wire, event, free_port, until


def reload(agent):
    """Writes the configuration as it now is and has it read; the answer."""
    agent.write_config()
    return agent.admin("POST", "/reload", timeout=30)


def reloaded(agent):
    reply = reload(agent)
    assert reply.status == 200, reply
    return reply.json()


def names(changes):
    return {c["name"]: c["what"] for c in changes}


def test_nothing_changed_touches_nothing(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output()})
    with agent.wire() as w:
        w.request("POST", "/events", json.dumps(event(1)), {"Content-Type": "application/json"})
        assert w.reply().status == 202
        for _ in range(5):
            answer = reloaded(agent)
            assert answer["inputs"] == [] and answer["outputs"] == [] and answer["needs_restart"] == []
        w.request("POST", "/events", json.dumps(event(2)), {"Content-Type": "application/json"})
        assert w.reply().status == 202
    agent.settled()
    sink.check(unique=2)
    assert agent.metric("penstock_events_received_total", input="http") == 2


def test_a_faulty_file_changes_nothing_and_is_named(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output()})
    agent.explain("reload: .*nearst|unknown|spol", "reload refused, nothing was changed")
    agent.text = json.dumps({**agent.config, "spol": {}}, indent=1)
    reply = reload(agent)
    assert reply.status == 422, reply
    fault = reply.json()["faults"][0]
    assert fault["line"] > 1 and "spol" in fault["message"], fault
    agent.text = None
    assert agent.post(event(1)).status == 202
    agent.settled()
    sink.check(unique=1)


def test_an_address_in_use_refuses_the_whole(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output()})
    agent.explain("reload: .*[Aa]ddress already in use", "reload refused, nothing was changed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = json.loads(json.dumps(agent.config))
        agent.config["inputs"]["more"] = {"type": "http", "listen": f"127.0.0.1:{taken.getsockname()[1]}"}
        agent.config["outputs"]["b"] = sink.output()
        reply = reload(agent)
        assert reply.status == 422, reply
        assert "in use" in reply.json()["faults"][0]["message"]
        agent.config = before
    assert [o["name"] for o in agent.status()["outputs"]] == ["a"]
    assert agent.post(event(1)).status == 202
    agent.settled()
    sink.check(unique=1)


def test_sighup_reads_the_file_again(world):
    first, second = world.sink(), world.sink()
    agent = world.agent({"a": first.output()})
    assert agent.post(event(1)).status == 202
    agent.settled()
    agent.config["outputs"]["a"] = second.output()
    agent.write_config()
    agent.process.signal(signal.SIGHUP)
    until(lambda: "reloaded: 1 inputs, 1 outputs" in agent.process.err(), "the reload is over")
    assert agent.post(event(2)).status == 202
    agent.settled()
    first.check(unique=1)
    second.check(unique=1)


def test_the_service_manager_is_told(world):
    sink = world.sink()
    path = str(world.dir / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(10)
        agent = world.agent({"a": sink.output()}, env={"NOTIFY_SOCKET": path})
        assert manager.recv(4096).startswith(b"READY=1\n")
        agent.process.signal(signal.SIGHUP)
        lines = manager.recv(4096).decode().splitlines()
        assert lines[0] == "RELOADING=1" and int(lines[1].removeprefix("MONOTONIC_USEC=")) > 0
        assert manager.recv(4096).startswith(b"READY=1\n")


def test_a_changed_output_keeps_its_spool(world):
    """What waits for an upstream that is down goes to where the output points now."""
    sink = world.sink()
    dead = free_port()
    agent = world.agent({"a": {**sink.output(), "endpoint": f"http://127.0.0.1:{dead}/in"}})
    agent.explain(r"output a: .*(refused|retrying)")
    assert agent.post([event(n) for n in range(50)]).status == 202
    agent.config["outputs"]["a"] = sink.output()
    assert names(reloaded(agent)["outputs"]) == {"a": "changed"}
    agent.settled()
    sink.check(unique=50)
    assert agent.ledger("a")["accepted"] == 50
    assert "paused" not in agent.process.err(), "nobody paused it"


@pytest.mark.parametrize("api, before, after", [("http", {"format": "json"}, {"format": "ndjson"}),
                                                ("http", {"format": "ndjson"}, {"format": "json"}),
                                                ("cloudevents", {"mode": "batch"}, {"mode": "structured"})])
def test_what_may_have_arrived_goes_again_as_it_was(world, api, before, after):
    """Another format is for what comes later: the upstream tells a repeat by its name, and its bytes are the same."""
    sink = world.sink()
    front = Front(world, sink.port)
    more = {"compression": "none", "batch": {"max_wait": "50ms"}, "retry": {"initial": "20ms", "max": "50ms"}}
    agent = world.agent({"a": front.output(sink, api, **more, **before)}).explain("output a: ")
    front.mode = reset_when_taken
    assert agent.post([event(n) for n in range(5)]).status == 202
    until(lambda: front.seen, "the first request")
    agent.config["outputs"]["a"] = front.output(sink, api, **more, **after)
    assert names(reloaded(agent)["outputs"]) == {"a": "changed"}
    front.mode = carry
    agent.settled()
    def identity(seen):
        return seen.body, seen.headers["content-type"], seen.headers.get("idempotency-key")
    assert len({identity(seen) for seen in front.seen}) == 1
    assert agent.post(event(5)).status == 202
    agent.settled()
    assert front.seen[-1].headers["content-type"] != front.seen[0].headers["content-type"]
    assert sink.check(unique=6)["processed"] == 6
    assert front.errors == []


def test_outputs_come_and_go_and_routes_follow(world):
    a, b = world.sink(), world.sink()
    agent = world.agent({"a": a.output(), "b": b.output()}, routes=[{"when": {"type": "b.*"}, "to": ["b"]}, {"to": ["a"]}])
    assert agent.post([event(1), event(2, type_="b.x")]).status == 202
    agent.settled()
    # the other order, and another way for b.*
    agent.config["outputs"] = {"c": b.output(), "a": a.output()}
    agent.config["routes"] = [{"when": {"type": "b.*"}, "to": ["c", "a"]}, {"to": ["a"]}]
    agent.explain("orphaned: .*/b ")
    answer = reloaded(agent)
    assert names(answer["outputs"]) == {"c": "new", "b": "removed"}, answer
    assert [o["name"] for o in agent.status()["outputs"]] == ["c", "a"]
    until(lambda: [o["name"] for o in agent.status()["orphaned"]] == ["b"], "b is listed as orphaned")
    assert agent.post([event(3), event(4, type_="b.x")]).status == 202
    agent.settled()
    assert a.numbers() == [1, 3, 4]
    assert b.numbers() == [2, 4]


def test_a_removed_output_is_picked_up_when_it_returns(world):
    sink = world.sink()
    dead = {**sink.output(), "endpoint": f"http://127.0.0.1:{free_port()}/in"}
    agent = world.agent({"a": sink.output(), "b": dead}, routes=[{"to": ["b"]}])
    agent.explain(r"output b: .*(refused|retrying)", "orphaned: ")
    assert agent.post([event(n) for n in range(10)]).status == 202
    agent.config["outputs"] = {"a": sink.output()}
    agent.config["routes"] = [{"to": ["a"]}]
    reloaded(agent)
    orphan = until(lambda: agent.status()["orphaned"], "b is orphaned")[0]
    assert orphan["name"] == "b" and orphan["bytes"] > 0
    # also after a restart
    agent.stop()
    agent.start()
    assert until(lambda: agent.status()["orphaned"], "b is orphaned")[0]["name"] == "b"
    agent.config["outputs"]["b"] = sink.output()
    reloaded(agent)
    agent.settled()
    until(lambda: agent.status()["orphaned"] == [], "nothing is orphaned any more")
    sink.check(unique=10)


def test_a_changed_input_keeps_its_address(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output()})
    assert agent.post(event(1)).status == 202
    agent.http_input(auth={"token": "sesame"})
    assert names(reloaded(agent)["inputs"]) == {"http": "changed"}
    assert agent.post(event(2)).status == 401
    assert agent.post(event(2), Authorization="Bearer sesame").status == 202
    agent.settled()
    sink.check(unique=2)
    until(lambda: agent.metric("penstock_events_received_total", input="http") == 3, "counters go on")


def test_sockets_of_changed_inputs_stay(world):
    """The socket file is the same one before and after, with the mode that is asked for now."""
    sink = world.sink()
    agent = world.agent({"a": sink.output()}, start=False)
    port = free_port()
    stream, dgram = world.dir / "stream.sock", world.dir / "dgram.sock"
    inputs = agent.config["inputs"]
    inputs["stream"] = {"type": "unix", "path": str(stream), "mode": "0600"}
    inputs["dgram"] = {"type": "unix_dgram", "path": str(dgram), "mode": "0600"}
    inputs["udp"] = {"type": "udp", "listen": f"127.0.0.1:{port}"}
    agent.start()
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(str(dgram))
    files = [(p.stat().st_ino, p.stat().st_mode & 0o777) for p in (stream, dgram)]
    for n in range(1, 4):
        inputs["stream"] = {**inputs["stream"], "mode": "0660", "max_event": f"{n}MiB"}
        inputs["dgram"] = {**inputs["dgram"], "mode": "0660", "receive_buffer": f"{n}MiB"}
        inputs["udp"] = {**inputs["udp"], "receive_buffer": f"{n}MiB"}
        assert set(names(reloaded(agent)["inputs"])) == {"stream", "dgram", "udp"}
        assert [(p.stat().st_ino, p.stat().st_mode & 0o777) for p in (stream, dgram)] == [(i, 0o660) for i, _ in files]
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(str(stream))
            s.sendall(json.dumps(event(10 * n)).encode() + b'\n{"penstock":"ack"}\n')
            assert json.loads(s.recv(1000)) == {"accepted": 1, "rejected": 0}
        sender.send(json.dumps(event(10 * n + 1)).encode())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(json.dumps(event(10 * n + 2)).encode(), ("127.0.0.1", port))
        until(lambda: len(sink.received()) == 3 * n, "all three are there")
    until(lambda: all(agent.metric("penstock_events_received_total", input=i) == 3 for i in ("stream", "dgram", "udp")),
          "counters go on")
    sender.close()
    agent.stop()
    assert not stream.exists() and not dgram.exists()


def test_a_renamed_input_keeps_its_socket(world):
    """It is never not there."""
    sink = world.sink()
    agent = world.agent({"a": sink.output()})
    address = agent.config["inputs"].pop("http")
    agent.config["inputs"]["web"] = address
    assert names(reloaded(agent)["inputs"]) == {"web": "new", "http": "removed"}
    assert agent.post(event(1)).status == 202
    agent.settled()
    sink.check(unique=1)


def test_keys_that_need_a_restart_are_named(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output()})
    agent.explain("takes effect at the next start only: agent.data_dir")
    agent.config["agent"]["data_dir"] = str(world.dir / "elsewhere")
    for _ in range(2):  # it is so until the restart
        assert reloaded(agent)["needs_restart"] == ["agent.data_dir"]
    assert agent.status()["agent"]["data_dir"] == str(agent.data_dir)


def test_a_flush_outlives_a_reload(world):
    sink = world.sink()
    agent = world.agent({"a": {**sink.output(), "endpoint": f"http://127.0.0.1:{free_port()}/in"}})
    agent.explain(r"output a: .*(refused|retrying)")
    assert agent.post([event(n) for n in range(10)]).status == 202
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(agent.admin("POST", "/flush?wait=20s", timeout=30)))
    waiter.start()
    agent.config["outputs"]["a"] = sink.output()
    reloaded(agent)
    waiter.join()
    assert answers[0].status == 200
    sink.check(unique=10)


class Talker(threading.Thread):
    """Sends events one by one over one kept-alive connection, each until it is accepted."""

    def __init__(self, agent, first, steady):
        super().__init__(daemon=True)
        self.agent, self.next, self.steady = agent, first, steady
        self.accepted, self.breaks, self.statuses, self.over = [], 0, {}, False

    def run(self):
        wire = None
        while not self.over:
            e = event(self.next)
            try:
                if wire is None:
                    wire = self.connect()
                wire.request("POST", "/events", json.dumps(e), {"Content-Type": "application/json"})
                reply = wire.reply()
            except OSError:
                reply = None
            if reply is None:
                self.breaks += 1
                wire = None
                continue
            self.statuses[reply.status] = self.statuses.get(reply.status, 0) + 1
            if reply.headers.get("connection") == "close":
                self.breaks += 1
                wire = None
            if reply.status == 202:
                self.accepted.append(self.next)
                self.next += 1

    def connect(self):
        return Wire(("127.0.0.1", self.agent.steady_port if self.steady else self.agent.port))


RELOADS = int(os.environ.get("PENSTOCK_RELOADS", "100"))


def test_many_reloads_under_load(world):
    sinks = [world.sink() for _ in range(3)]
    agent = world.agent({"base": sinks[0].output()}, start=False)
    agent.steady_port = free_port()
    agent.config["inputs"]["steady"] = {"type": "http", "listen": f"127.0.0.1:{agent.steady_port}"}
    agent.config["routes"] = [{"to": ["base"]}]
    agent.start()
    agent.explain("orphaned: ", r"output \w+: ", "reload")
    chance = random.Random(7)
    talkers = [Talker(agent, 1_000_000 * (i + 1), steady=i < 2) for i in range(4)]
    for t in talkers:
        t.start()
    for i in range(RELOADS):
        edit = chance.randrange(6)
        outputs = agent.config["outputs"]
        if edit == 0:
            agent.config["inputs"]["http"]["max_connections"] = chance.randrange(100, 1000)
        elif edit == 1:
            outputs["base"] = sinks[0].output(concurrency=chance.randrange(1, 5))
        elif edit == 2:
            outputs["extra"] = sinks[1].output(batch={"max_events": chance.randrange(1, 100)})
        elif edit == 3:
            outputs.pop("extra", None)
        elif edit == 4:
            agent.config["outputs"] = dict(chance.sample(sorted(outputs.items()), len(outputs)))
        else:
            agent.config["agent"]["name"] = f"agent{i}"
        agent.config["routes"] = [{"to": sorted(agent.config["outputs"])}]
        if chance.random() < 0.1:
            agent.text = "outputs: ["
            assert reload(agent).status == 422
            agent.text = None
        else:
            reloaded(agent)
    for t in talkers:
        t.over = True
    for t in talkers:
        t.join(30)
    for t in talkers:
        assert set(t.statuses) <= {202, 429}, t.statuses
        assert t.accepted
        if t.steady:
            assert t.breaks == 0, "a connection of an unchanged input broke"
    agent.config["outputs"]["extra"] = sinks[1].output()
    reloaded(agent)
    agent.settled(timeout=60)
    taken = set(sinks[0].numbers())
    assert taken >= {n for t in talkers for n in t.accepted}
    assert sinks[0].stats()["violations"] == []
