"""The Unix datagram and UDP inputs: everything that is sent is accepted or counted as lost, and why."""
import fcntl
import json
import os
import signal
import socket
import subprocess
import threading

from harness import PENSTOCK, Process, event, free_port, until


def line(n, **more):
    return json.dumps(event(n, **more)).encode()


def udp_agent(world, outputs, **more):
    port = free_port()
    agent = world.agent(outputs, inputs={"in": {"type": "udp", "listen": f"127.0.0.1:{port}", **more}})
    agent.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    agent.udp.connect(("127.0.0.1", port))
    return agent


def dgram_agent(world, outputs, **more):
    path = str(world.dir / "in.dgram")
    agent = world.agent(outputs, inputs={"in": {"type": "unix_dgram", "path": path, **more}})
    agent.dgram_path = path
    agent.dgram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    agent.dgram.connect(path)
    return agent


def counted(agent, name="received", **labels):
    return agent.metric(f"penstock_events_{name}_total", input="in", **labels)


def test_udp_carries_one_or_more_events_a_datagram(world):
    sink = world.sink()
    agent = udp_agent(world, {"a": sink.output()})
    agent.udp.send(line(1))
    agent.udp.send(b"\xef\xbb\xbf" + line(2) + b"\r\n\n" + line(3) + b"\n")
    agent.udp.send(line(4, size=60_000))  # nearly the largest
    for n in range(5, 300):
        agent.udp.send(line(n))
    until(lambda: counted(agent) == 299, "all have come")
    agent.settled()
    assert sorted(sink.numbers()) == list(range(1, 300))
    sink.check(unique=299)


def test_unix_datagrams(world):
    sink = world.sink()
    agent = dgram_agent(world, {"a": sink.output()}, mode="0622")
    assert os.stat(agent.dgram_path).st_mode & 0o777 == 0o622
    agent.dgram.send(line(0, size=150_000))
    for n in range(1, 200):
        agent.dgram.send(line(n))
    until(lambda: counted(agent) == 200, "all have come")
    agent.settled()
    assert sorted(sink.numbers()) == list(range(200))
    agent.stop()
    assert not os.path.exists(agent.dgram_path)


def test_malformed_datagrams_are_counted_line_by_line(world):
    sink = world.sink()
    agent = udp_agent(world, {"a": sink.output()})
    agent.udp.send(line(1) + b"\n{\n" + line(2) + b'\n{"x":1}')
    agent.udp.send(b"")
    agent.udp.send(b"\xff\xfe")
    until(lambda: counted(agent) == 6, "all have been looked at")
    assert counted(agent, "rejected", reason="malformed") == 4
    agent.settled()
    sink.check(unique=2)


def test_truncated_datagrams_are_counted(world):
    sink = world.sink()
    agent = dgram_agent(world, {"a": sink.output()})
    try:
        agent.dgram.setsockopt(socket.SOL_SOCKET, 32, 2_000_000)  # SO_SNDBUFFORCE
    except PermissionError:
        agent.dgram.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2_000_000)
    if agent.dgram.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < 1_000_000:
        import pytest
        pytest.skip("the kernel lets nobody send so large a datagram")
    agent.dgram.send(line(1) + b"\n" + line(2, size=300_000))
    agent.dgram.send(line(3))
    until(lambda: counted(agent) == 2, "both have come")
    assert counted(agent, "rejected", reason="truncated") == 1
    agent.settled()
    assert sink.numbers() == [3]


def test_what_the_kernel_dropped_is_counted(world):
    sink = world.sink()
    agent = udp_agent(world, {"a": sink.output()}, receive_buffer="64KiB").explain("the kernel dropped")
    agent.process.signal(signal.SIGSTOP)
    for n in range(2000):
        agent.udp.send(line(n, size=300))
    agent.process.signal(signal.SIGCONT)
    until(lambda: counted(agent) == 2000, "sent = accepted + counted losses")
    lost = counted(agent, "rejected", reason="kernel_dropped")
    assert 0 < lost < 2000
    assert agent.ledger("a")["accepted"] == 2000 - lost
    agent.settled()
    sink.check(unique=2000 - lost)


def test_a_full_output_costs_datagrams_and_says_so(world):
    sink = world.sink()
    sink.respond("status=503")
    agent = udp_agent(world, {"a": sink.output(spool={"max_bytes": "4MiB", "segment_bytes": "1MiB"})})
    agent.explain("output a", "over 252KiB", "the kernel dropped")
    for n in range(3000):
        agent.udp.send(line(n, size=3000))
    until(lambda: counted(agent) == 3000, "all are accounted for")
    full = counted(agent, "rejected", reason="full")
    dropped = counted(agent, "rejected", reason="kernel_dropped")
    assert full > 0 and agent.ledger("a")["accepted"] == 3000 - full - dropped


def test_a_flood_leaves_the_others_their_turn(world):
    sink = world.sink()
    port = free_port()
    path = str(world.dir / "quiet.sock")
    agent = world.agent({"a": sink.output()}, inputs={"loud": {"type": "udp", "listen": f"127.0.0.1:{port}"},
                                                      "quiet": {"type": "unix", "path": path}})
    agent.explain("the kernel dropped")
    stop = threading.Event()

    def flood():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("127.0.0.1", port))
            n = 1_000_000
            while not stop.is_set():
                n += 1
                s.send(line(n))

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(path)
            for n in range(20):
                s.sendall(line(n) + b'\n{"penstock":"ack"}\n')
                assert json.loads(s.recv(4096)) == {"accepted": n + 1, "rejected": 0}
    finally:
        stop.set()
        for t in threads:
            t.join(10)


# --- sockets from the service manager ------------------------------------------------------------------------------

# Descriptors 3, 4, … in the child, as a service manager hands them over.
ACTIVATE = ("import os,sys; names=sys.argv[1]; fds=[int(f) for f in sys.argv[2].split(',')]; "
            "[os.dup2(f, 3 + i) for i, f in enumerate(fds)]; "
            "os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names, LISTEN_PID=str(os.getpid())); "
            "os.execv(sys.argv[3], sys.argv[3:])")


class Activated:
    """An agent whose sockets somebody else has made and keeps."""

    def __init__(self, world, agent, sockets):
        self.world, self.agent, self.sockets = world, agent, sockets

    def start(self):
        self.agent.write_config()
        names = ":".join(self.sockets)
        fds = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 100) for s in self.sockets.values()]
        out = open(self.world.dir / f"{self.world.serial}-activated.out", "wb")
        self.world.serial += 1
        err = open(self.world.dir / f"{self.world.serial:02d}-{self.agent.name}.err", "wb")
        child = subprocess.Popen(["/usr/bin/python3", "-c", ACTIVATE, names, ",".join(map(str, fds)), PENSTOCK, "run", "-c",
                                  str(self.agent.path)], pass_fds=fds, stdout=out, stderr=err, cwd=self.world.dir)
        for fd in fds:
            os.close(fd)
        process = Process.__new__(Process)
        process.world, process.name, process.child = self.world, self.agent.name, child
        process.out_path, process.err_path = out.name, err.name
        process.err = lambda: open(err.name, errors="replace").read()
        self.world.processes.append(process)
        self.agent.process = process
        until(lambda: self.agent.admin("GET", "/readyz").status == 200, "the agent is ready")


def test_inherited_sockets_outlive_fifty_restarts(world):
    sink = world.sink()
    dgram_path, stream_path = str(world.dir / "d.sock"), str(world.dir / "s.sock")
    dgram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dgram.bind(dgram_path)
    stream = socket.socket(socket.AF_UNIX)
    stream.bind(stream_path)
    stream.listen(100)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    inputs = {"dgram": {"type": "unix_dgram", "path": "/nonesuch/d"}, "stream": {"type": "unix", "path": "/nonesuch/s"},
              "udp": {"type": "udp", "listen": "127.0.0.1:1"}}
    agent = world.agent({"a": sink.output()}, inputs=inputs, start=False, agent={"drain_timeout": "2s"})
    activated = Activated(world, agent, {"dgram": dgram, "stream": stream, "udp": udp})
    to_dgram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    to_dgram.connect(dgram_path)
    to_udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    to_udp.connect(udp.getsockname())
    sent = 0
    for round_ in range(50):
        for _ in range(4):  # nobody is there yet: they wait in the kernel
            to_dgram.send(line(sent))
            to_udp.send(line(sent + 1))
            sent += 2
        activated.start()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(stream_path)
            s.sendall(line(sent) + b'\n{"penstock":"ack"}\n')
            assert json.loads(s.recv(1000)) == {"accepted": 1, "rejected": 0}
            sent += 1
        until(lambda: agent.metric("penstock_events_received_total") == 9, "all have come")
        if round_ % 5 == 0:
            agent.kill()
        else:
            agent.stop()
        assert os.path.exists(dgram_path) and os.path.exists(stream_path)
    activated.start()
    agent.explain("recover")
    agent.settled()
    assert sorted(sink.numbers()) == list(range(sent))


def test_inherited_sockets_outlive_reloads(world):
    sink = world.sink()
    stream_path, dgram_path = str(world.dir / "s.sock"), str(world.dir / "d.sock")
    stream = socket.socket(socket.AF_UNIX)
    stream.bind(stream_path)
    stream.listen(100)
    dgram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dgram.bind(dgram_path)
    inputs = {"stream": {"type": "unix", "path": "/nonesuch/s"}, "dgram": {"type": "unix_dgram", "path": "/nonesuch/d"}}
    agent = world.agent({"up": sink.output("http")}, inputs=dict(inputs), start=False)
    Activated(world, agent, {"stream": stream, "dgram": dgram}).start()
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(dgram_path)
    numbers = iter(range(100000))

    def reload():
        agent.write_config()
        assert agent.admin("POST", "/reload").status == 200

    def say():
        sender.send(line(next(numbers)))
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(stream_path)
            s.sendall(line(next(numbers)) + b'\n{"penstock":"ack"}\n')
            assert json.loads(s.recv(4096)) == {"accepted": 1, "rejected": 0}

    say()
    for turn in range(20):
        if turn % 2 == 0:
            agent.config["inputs"]["stream"] = {**inputs["stream"], "max_connections": 100 + turn}
            agent.config["inputs"]["dgram"] = {**inputs["dgram"], "receive_buffer": f"{turn + 64}KiB"}
        else:
            agent.config["inputs"] = {"other": {"type": "udp", "listen": "127.0.0.1:0"}}
            reload()
            sender.send(line(next(numbers)))  # waits in the kernel until the input is back
            agent.config["inputs"] = dict(inputs)
        reload()
        say()
    sent = next(numbers)
    until(lambda: sink.stats()["unique"] == sent, "every event arrived", timeout=30)
    assert os.path.exists(stream_path) and os.path.exists(dgram_path)
    agent.stop()
    assert os.path.exists(stream_path) and os.path.exists(dgram_path), "inherited sockets are never removed"


def test_an_inherited_socket_that_nobody_names_is_ignored_with_a_warning(world):
    sink = world.sink()
    path, other_path = str(world.dir / "s.sock"), str(world.dir / "o.sock")
    stream, other = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    for s, p in ((stream, path), (other, other_path)):
        s.bind(p)
        s.listen(10)
    agent = world.agent({"up": sink.output("http")}, inputs={"stream": {"type": "unix", "path": "/nonesuch/s"}}, start=False)
    agent.explain('inherited socket "nobody"')
    Activated(world, agent, {"nobody": other, "stream": stream}).start()
    assert 'inherited socket "nobody": no input or admin has this name' in agent.process.err()
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(path)
        s.sendall(line(1) + b'\n{"penstock":"ack"}\n')
        assert json.loads(s.recv(4096)) == {"accepted": 1, "rejected": 0}
    agent.stop()
    assert os.path.exists(other_path)
