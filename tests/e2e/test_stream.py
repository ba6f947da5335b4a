"""The Unix stream input: NDJSON with its ack line, backpressure, the socket file, and who may connect."""
import json
import os
import socket
import stat
import subprocess
import threading
import time

import pytest

from harness import PENSTOCK, Wire, event, needs_root, run, until

ACK = b'{"penstock":"ack"}\n'


def lines(events):
    return b"".join(json.dumps(e).encode() + b"\n" for e in events)


def unix_agent(world, outputs, **more):
    path = str(world.dir / "app.sock")
    agent = world.agent(outputs, inputs={"app": {"type": "unix", "path": path, **more}})
    agent.socket_path = path
    return agent


def ask(wire):
    wire.say(ACK)
    return json.loads(wire.line())


def rejected(agent, reason, input_="app"):
    return agent.metric("penstock_events_rejected_total", input=input_, reason=reason)


def test_every_event_arrives_and_the_ack_counts_them(world):
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()})
    with Wire(agent.socket_path) as w:
        assert ask(w) == {"accepted": 0, "rejected": 0}
        w.say(lines(event(n) for n in range(500)))
        assert ask(w) == {"accepted": 500, "rejected": 0}
        assert agent.ledger("a")["accepted"] == 500
        w.say(lines(event(n, size=2000) for n in range(500, 900)))
        assert ask(w) == {"accepted": 900, "rejected": 0}
    agent.settled()
    assert sorted(sink.numbers()) == list(range(900))
    sink.check(unique=900)


def test_acks_among_events_count_what_stands_before_them(world):
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()})
    with Wire(agent.socket_path) as w:
        w.say(lines([event(1)]) + ACK + lines([event(2), event(3)]) + ACK + b'{"x":1}\n' + b' { "penstock" : "ack" } \n')
        assert json.loads(w.line()) == {"accepted": 1, "rejected": 0}
        assert json.loads(w.line()) == {"accepted": 3, "rejected": 0}
        last = json.loads(w.line())
        assert (last["accepted"], last["rejected"]) == (3, 1)
        assert last["first_error"].startswith("line 6: "), last


def test_bytes_one_by_one_and_lines_over_many_reads(world):
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()})
    big = event(3, size=300_000)
    with Wire(agent.socket_path) as w:
        for byte in b"\xef\xbb\xbf\r\n" + lines([event(1)]):
            w.say(bytes([byte]))
        w.say(lines([big]) + lines([event(4)])[:-1])
        w.sock.shutdown(socket.SHUT_WR)  # the last line has no LF
        assert w.ended()
    agent.settled()
    assert sorted(sink.numbers()) == [1, 3, 4]
    assert agent.metric("penstock_events_received_total", input="app") == 3


def test_events_written_one_by_one_are_gathered_and_none_is_left_behind(world):
    """Several of them, at a rate at which the input does not wake for each write; some ask, some just go away."""
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()})
    with Wire(agent.socket_path) as asks, Wire(agent.socket_path) as silent, Wire(agent.socket_path) as goes:
        for n in range(0, 6000, 3):
            for k, w in enumerate((asks, silent, goes)):
                w.say(lines([event(n + k)]))
            if n % 1500 == 1497:
                assert ask(asks) == {"accepted": n // 3 + 1, "rejected": 0}
        goes.sock.shutdown(socket.SHUT_WR)
        assert goes.ended()
        assert ask(silent) == {"accepted": 2000, "rejected": 0}
    agent.settled()
    assert sorted(sink.numbers()) == list(range(6000))


def test_malformed_lines_are_counted_and_the_first_is_named(world):
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()})
    with Wire(agent.socket_path) as w:
        w.say(lines([event(1)]) + b'\n{"type":"a"\n{"data":1}\n{"type":"b","x":[]}\n' + lines([event(2)]))
        answer = ask(w)
        assert (answer["accepted"], answer["rejected"]) == (2, 3)
        assert answer["first_error"].startswith("line 3: "), answer
    assert rejected(agent, "malformed") == 3
    agent.settled()
    sink.check(unique=2)


def test_a_line_over_the_limit_is_answered_and_ends_the_connection(world):
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()}, max_event="4KiB").explain("longer than max_event")
    with Wire(agent.socket_path) as w:
        w.say(lines([event(1)]) + ACK + b'{"type":"' + b"x" * 10_000)
        assert json.loads(w.line())["accepted"] == 1
        answer = json.loads(w.line())
        assert answer["error"]["code"] == "too_large" and "4096" in answer["error"]["message"]
        assert w.line() is None
    assert rejected(agent, "too_large") == 1
    until(lambda: agent.status()["inputs"][0]["connections"] == 0, "the connection is closed")


def test_an_unknown_protocol_is_told_so(world):
    agent = unix_agent(world, {"a": world.sink().output()})
    with Wire(agent.socket_path) as w:
        w.say("GET / HTTP/1.1\r\n\r\n")
        assert json.loads(w.line())["error"]["code"] == "bad_protocol"
        assert w.line() is None


def test_what_was_acked_survives_kill_9(world):
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()}).explain("recover")
    acked, sent = 0, 0
    for round_ in range(12):
        with Wire(agent.socket_path) as w:
            for _ in range(3):
                w.say(lines(event(n, size=200) for n in range(sent, sent + 50)))
                sent += 50
                answer = ask(w)
                assert answer["rejected"] == 0
            acked = sent
            w.say(lines(event(n) for n in range(sent, sent + 20)))  # never asked about
            sent += 20
            agent.kill()
        assert os.path.exists(agent.socket_path)  # stale
        agent.start()
        assert agent.ledger("a")["accepted"] >= 150 * (round_ + 1)
    agent.settled()
    numbers = set(sink.numbers())
    for round_ in range(12):
        assert numbers >= set(range(round_ * 170, round_ * 170 + 150))
    assert acked < sent


def test_a_full_output_stops_the_sender_and_loses_nothing(world):
    sink = world.sink()
    sink.respond("status=503")
    agent = unix_agent(world, {"a": sink.output(spool={"max_bytes": "4MiB", "segment_bytes": "1MiB"})})
    agent.explain("output a", "over 252KiB", "when_full")
    total, done = 6000, threading.Event()

    def send():
        with Wire(agent.socket_path, timeout=60) as w:
            for n in range(0, total, 50):
                w.say(lines(event(k, size=2000) for k in range(n, n + 50)))
            send.answer = ask(w)
            done.set()

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    until(lambda: agent.admin("GET", "/readyz").status == 503, "the output is full", timeout=20)
    held = agent.ledger("a")["accepted"]
    with Wire(agent.socket_path, timeout=60) as quiet:  # others wait too, and the agent lives
        quiet.say(lines([event(total)]))
        assert not done.is_set() and held < total
        sink.heal()
        assert done.wait(60)
        assert ask(quiet) == {"accepted": 1, "rejected": 0}
    assert send.answer == {"accepted": total, "rejected": 0}
    agent.settled(timeout=40)
    assert sorted(sink.numbers()) == list(range(total + 1))
    assert rejected(agent, "full") == 0


def test_dropped_events_count_as_accepted(world):
    sink = world.sink()
    sink.respond("status=503")
    spool = {"max_bytes": "4MiB", "segment_bytes": "1MiB", "when_full": "drop_newest"}
    agent = unix_agent(world, {"a": sink.output(spool=spool)}).explain("output a", "over 252KiB", "when_full")
    with Wire(agent.socket_path, timeout=30) as w:
        w.say(lines(event(n, size=2000) for n in range(4000)))
        assert ask(w) == {"accepted": 4000, "rejected": 0}
    ledger = agent.ledger("a")
    assert ledger["accepted"] == 4000 and ledger["dropped"] > 0


def test_a_loud_sender_does_not_delay_the_quiet_ones(world):
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()})
    stop = threading.Event()
    flood = lines(event(n, size=300) for n in range(1_000_000, 1_000_200))

    def loud():
        with Wire(agent.socket_path, timeout=30) as w:
            while not stop.is_set():
                w.say(flood)

    thread = threading.Thread(target=loud, daemon=True)
    thread.start()
    try:
        wires = [Wire(agent.socket_path, timeout=10) for _ in range(10)]
        for round_ in range(10):
            for i, w in enumerate(wires):
                w.say(lines([event(round_ * 10 + i)]) + ACK)
            for w in wires:
                assert json.loads(w.line()) == {"accepted": round_ + 1, "rejected": 0}
        for w in wires:
            w.close()
    finally:
        stop.set()
        thread.join(30)


def test_stopping_answers_for_what_was_read(world):
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()})
    with Wire(agent.socket_path) as w:
        w.say(lines(event(n) for n in range(100)) + ACK)
        agent.stop()
        try:
            line = w.line()
        except ConnectionResetError:  # it came too late to be read
            line = None
        if line is not None:
            assert json.loads(line) == {"accepted": 100, "rejected": 0}
            assert sorted(sink.numbers()) == list(range(100))
            assert w.line() is None
    assert not os.path.exists(agent.socket_path)


def test_a_peer_that_reads_no_answers_is_not_read(world):
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()})
    with Wire(agent.socket_path) as w:
        w.sock.setblocking(False)
        said = 0
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                said += w.sock.send(ACK * 1000)
            except BlockingIOError:
                break
        else:
            raise AssertionError("nothing ever stopped the sender")
        w.sock.setblocking(True)
        w.sock.settimeout(10)
        w.sock.shutdown(socket.SHUT_WR)
        for _ in range(said // len(ACK)):
            assert w.line() is not None


def test_idle_connections_make_room(world):
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()}, max_connections=3).explain("max_connections")
    wires = [Wire(agent.socket_path) for _ in range(3)]
    for i, w in enumerate(wires):
        w.say(lines([event(i)]))
        assert ask(w)["accepted"] == 1
    with Wire(agent.socket_path) as w:
        w.say(lines([event(9)]))
        assert ask(w)["accepted"] == 1
    assert wires[0].ended()
    assert ask(wires[2])["accepted"] == 1
    for w in wires:
        w.close()


def test_descriptors_run_out_without_spinning(world):
    sink = world.sink()
    path = str(world.dir / "app.sock")
    agent = world.agent({"a": sink.output()}, inputs={"app": {"type": "unix", "path": path}},
                        wrapper=("prlimit", "--nofile=64:64"))
    agent.explain("cannot accept", "descriptor", "Too many open files")
    wires = [Wire(path) for _ in range(100)]  # the rest waits in the kernel
    until(lambda: "cannot accept" in agent.process.err(), "the agent says so")

    def ticks():
        fields = open(f"/proc/{agent.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before, begun = ticks(), time.monotonic()
    until(lambda: time.monotonic() > begun + 1, "a second has passed")
    assert ticks() - before < 20  # of 100 a second
    for w in wires[:60]:
        w.close()
    for i, w in enumerate(wires[60:]):
        w.say(lines([event(i)]))
        assert ask(w)["accepted"] == 1
        w.close()


def test_a_thousand_idle_and_64_busy_connections_stay_within_memory(world):
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()}, max_connections=2000)
    idle = []
    for n in range(1000):
        idle.append(Wire(agent.socket_path, timeout=60))
        if n % 128 == 0:  # no faster than they are accepted
            until(lambda: agent.status()["inputs"][0]["connections"] == len(idle), "connections are accepted")
    busy = [Wire(agent.socket_path, timeout=60) for _ in range(64)]
    payload = lines(event(n, size=300) for n in range(400))

    def send(w):
        for _ in range(5):
            w.say(payload)

    threads = [threading.Thread(target=send, args=(w,), daemon=True) for w in busy]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    for w in busy:
        assert ask(w) == {"accepted": 2000, "rejected": 0}
    peak = next(int(l.split()[1]) for l in open(f"/proc/{agent.process.pid}/status") if l.startswith("VmHWM"))
    assert "sanitize" in run([PENSTOCK, "version"]).stdout or peak < 64 * 1024, peak
    for w in idle + busy:
        w.close()


# --- the socket file --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("umask", [0, 0o077])
def test_the_mode_does_not_depend_on_the_umask(world, umask):
    path = str(world.dir / "app.sock")
    old = os.umask(umask)
    try:
        world.agent({"a": world.sink().output()}, inputs={"app": {"type": "unix", "path": path, "mode": "0620"}})
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o620


@needs_root
def test_owner_and_group(world):
    path = str(world.dir / "app.sock")
    world.agent({"a": world.sink().output()},
                inputs={"app": {"type": "unix", "path": path, "user": "nobody", "group": "nogroup"}})
    import grp
    import pwd
    st = os.stat(path)
    assert (st.st_uid, st.st_gid) == (pwd.getpwnam("nobody").pw_uid, grp.getgrnam("nogroup").gr_gid)


def refuses(world, agent, code):
    agent.launch()
    assert agent.process.wait() == code, agent.process.err()
    agent.explain(".*")


def test_a_stale_file_is_replaced_and_a_live_one_is_not(world):
    path = str(world.dir / "app.sock")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    out = world.sink().output()
    first = world.agent({"a": out}, inputs={"app": {"type": "unix", "path": path}})
    second = world.agent({"a": out}, inputs={"app": {"type": "unix", "path": path}}, start=False)
    refuses(world, second, 73)
    with Wire(path) as w:
        assert ask(w) == {"accepted": 0, "rejected": 0}
    first.stop()
    assert not os.path.exists(path)


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_alone(world, kind):
    path = world.dir / "app.sock"
    target = world.dir / "precious"
    target.write_text("mine")
    if kind == "file":
        path.write_text("mine")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(target)
    agent = world.agent({"a": world.sink().output()}, inputs={"app": {"type": "unix", "path": str(path)}}, start=False)
    refuses(world, agent, 73)
    assert os.path.lexists(path) and target.read_text() == "mine"


def test_a_path_that_is_too_long_is_a_fault_of_configuration(world):
    path = str(world.dir / ("x" * 120))
    agent = world.agent({"a": world.sink().output()}, inputs={"app": {"type": "unix", "path": path}}, start=False)
    refuses(world, agent, 78)


@needs_root
def test_only_those_who_are_allowed_may_send(world):
    sink = world.sink()
    agent = unix_agent(world, {"a": sink.output()}, mode="0666", allow={"uid": ["nobody", 12345], "gid": [23456]})
    agent.explain("is refused")
    os.chmod(world.dir, 0o755)
    with Wire(agent.socket_path) as w:
        try:
            assert w.line() is None
        except ConnectionResetError:
            pass
    assert rejected(agent, "unauthorized") == 1
    say = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
           "s.sendall(b'{\"penstock\":\"ack\"}\\n'); print(s.recv(100).decode())")
    for who in ({"user": "nobody"}, {"user": 54321, "group": 23456}, {"user": 54321, "group": 1, "extra_groups": [23456]}):
        done = subprocess.run(["/usr/bin/python3", "-c", say, agent.socket_path], capture_output=True, text=True, timeout=20,
                              check=False, **who)
        assert json.loads(done.stdout) == {"accepted": 0, "rejected": 0}, (who, done.stderr)
    assert rejected(agent, "unauthorized") == 1
    assert "uid 0" in agent.process.err()
