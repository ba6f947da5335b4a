"""harness: the people of the end-to-end tests: an agent, upstreams, clients, a certificate authority and a bad line.

Everything here is a real process or a real socket on the loopback. A test reads like a dialogue:

    def test_delivers(world):
        sink = world.sink(tls=True)
        agent = world.agent(outputs={"a": sink.output("http")})
        assert agent.post([event(1), event(2)]).status == 202
        agent.settled()
        assert sink.stats()["unique"] == 2

`world` (conftest.py) ends every process that it started, by its pid, and holds each agent to two things at the
end of each test: its ledger balances, and there is nothing on its standard error that the test has not explained.
Nothing sleeps to be safe: until() asks again and again, with a deadline.
"""
import ctypes
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PENSTOCK = os.environ.get("PENSTOCK", str(ROOT / "build" / "penstock"))
# Slow machines and sanitizers: every deadline is multiplied.
PATIENCE = float(os.environ.get("PENSTOCK_PATIENCE", "1"))
LIBC = ctypes.CDLL(None)


class Ended(Exception):
    """A process that should be there is not: waiting longer is of no use."""


def until(condition, what, timeout=10.0, pause=0.01):
    """Asks `condition` until it is true, and gives what it said; fails with `what` after the deadline."""
    deadline = time.monotonic() + timeout * PATIENCE
    last = None
    while True:
        try:
            last = condition()
        except (OSError, http.client.HTTPException, AssertionError) as e:
            last = None
            error = e
        else:
            error = None
        if last:
            return last
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}" + (f" ({error!r})" if error else ""))
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)


ports_given = set()


def free_port():
    """A port that is free now and that nobody here was given before."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port not in ports_given:
            ports_given.add(port)
            return port


def event(n, type_="test.event", size=0, **more):
    """A neutral event that says its number; `size` pads its data to about so many bytes."""
    data = {"n": n}
    if size:
        data["pad"] = "x" * size
    return {"id": f"e-{n}", "type": type_, "source": "/test", "data": data, **more}


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# --- HTTP ---------------------------------------------------------------------------------------------------

class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Wire:
    """A raw connection to an HTTP server: says exactly the bytes it is told to, and reads answers one by one."""

    def __init__(self, address, tls=None, timeout=10.0, name="localhost"):
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout * PATIENCE)
            self.sock.connect(address)
        else:
            self.sock = socket.create_connection(address, timeout=timeout * PATIENCE)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=name)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def say(self, data):
        self.sock.sendall(data.encode() if isinstance(data, str) else data)
        return self

    def request(self, method, path, body=b"", headers=None):
        """Says a whole request, and does not wait for the answer."""
        body = body.encode() if isinstance(body, str) else body
        head = {"Host": "localhost", "Content-Length": str(len(body)), **(headers or {})}
        lines = "".join(f"{k}: {v}\r\n" for k, v in head.items() if v is not None)
        return self.say(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)

    def more(self):
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def line(self):
        """One line, without its end; None at the end of the stream."""
        while b"\n" not in self.buffer:
            if not self.more():
                return None
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def exactly(self, n):
        while len(self.buffer) < n:
            if not self.more():
                raise AssertionError(f"the answer ended after {len(self.buffer)} of {n} bytes")
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def reply(self, head_only=False):
        """The next answer; None when the connection has ended instead."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                assert not self.buffer, f"half an answer: {self.buffer!r}"
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        assert re.fullmatch(r"HTTP/1\.[01] \d\d\d .*", lines[0]), lines[0]
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        status = int(lines[0].split()[1])
        if status < 200 or status in (204, 304) or head_only:
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = self.chunks()
        elif "content-length" in headers:
            body = self.exactly(int(headers["content-length"]))
        else:
            while self.more():
                pass
            body, self.buffer = self.buffer, b""
        return Reply(status, headers, body)

    def chunks(self):
        body = b""
        while True:
            n = int(self.line().split(b";")[0], 16)
            body += self.exactly(n)
            assert self.line() == b""
            if n == 0:
                return body

    def ended(self):
        """True when the other side has closed and left nothing unsaid."""
        try:
            return not self.buffer and not self.sock.recv(65536)
        except ConnectionResetError:
            return True


# --- processes ------------------------------------------------------------------------------------------------

class Process:
    """A child with its output in files; ended by pid and only by us."""

    def __init__(self, world, name, argv, env=None, stdin=subprocess.DEVNULL, wrapper=()):
        self.world, self.name = world, name
        world.serial += 1
        self.out_path = world.dir / f"{world.serial:02d}-{name}.out"
        self.err_path = world.dir / f"{world.serial:02d}-{name}.err"
        environment = {**os.environ, **(env or {})}
        for name in ("JOURNAL_STREAM", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"):
            if name not in (env or {}):
                environment.pop(name, None)
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.child = subprocess.Popen([*wrapper, *argv], stdin=stdin, stdout=out, stderr=err, cwd=world.dir,
                                          env=environment)
        world.processes.append(self)

    @property
    def pid(self):
        return self.child.pid

    def alive(self):
        return self.child.poll() is None

    def out(self):
        return self.out_path.read_text(errors="replace")

    def err(self):
        return self.err_path.read_text(errors="replace")

    def signal(self, number):
        self.child.send_signal(number)

    def wait(self, timeout=20.0):
        try:
            return self.child.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end within {timeout} s:\n{self.err()[-2000:]}") from None

    def kill(self):
        if self.alive():
            self.child.kill()
        self.child.wait()


def run(argv, timeout=30.0, **more):
    """One command to its end: CompletedProcess with text."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout * PATIENCE, check=False,
                          **{"stdin": subprocess.DEVNULL if "input" not in more else None, **more})


def until_released(image):
    """Until no loop device holds an image any more. Unmounting is not the end of a file system of which somebody else has a copy
    of the mount (a process with a mount namespace of its own): mounted again, it would be the same one, dead or alive."""
    until(lambda: not run(["losetup", "--associated", str(image)]).stdout.strip(), f"{image} is let go of", 60, 0.02)


# --- the agent -----------------------------------------------------------------------------------------------

class Agent:
    """`penstock run` with a configuration made of dictionaries (JSON is YAML)."""

    def __init__(self, world, outputs, inputs=None, routes=None, agent=None, admin=None, start=True, env=None, name="agent",
                 data_dir=None, text=None, wrapper=()):
        self.world, self.env, self.wrapper, self.name = world, env, wrapper, name
        self.data_dir = pathlib.Path(data_dir or world.dir / f"{name}-data")
        self.port, self.admin_port = free_port(), free_port()
        self.config = {
            "agent": {"name": name, "data_dir": str(self.data_dir), "min_free": 0, **(agent or {})},
            "admin": {"listen": f"127.0.0.1:{self.admin_port}", **(admin or {})},
            "inputs": inputs if inputs is not None else {"http": {"type": "http", "listen": f"127.0.0.1:{self.port}"}},
            "outputs": outputs,
        }
        if routes is not None:
            self.config["routes"] = routes
        self.path = world.dir / f"{name}.yaml"
        self.text = text
        self.process = None
        self.expected = []   # patterns of warnings and errors that the test has explained
        self.ledger_holds = True
        world.agents.append(self)
        if start:
            self.start()

    def http_input(self, **more):
        """The HTTP input's settings, changed before the next start."""
        self.config["inputs"]["http"].update(more)

    def write_config(self):
        self.path.write_text(self.text if self.text is not None else json.dumps(self.config, indent=1))

    def launch(self):
        """Starts the process and does not wait for it."""
        self.write_config()
        self.process = Process(self.world, self.name, [PENSTOCK, "run", "-c", str(self.path)], env=self.env, wrapper=self.wrapper)
        return self

    def start(self, timeout=15.0):
        self.launch()
        def ready():
            if not self.process.alive():
                raise Ended(f"{self.name} ended with {self.process.child.returncode}: {self.process.err()[-2000:]}")
            return self.admin("GET", "/readyz").status == 200
        try:
            until(ready, "the agent is ready", timeout)
        except AssertionError:
            print(self.process.err()[-4000:])
            raise
        return self

    def explain(self, *patterns):
        """Warnings and errors that match are what this test is about."""
        self.expected += patterns
        return self

    # what an operator does
    def admin(self, method, path, body=None, timeout=10.0):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=timeout * PATIENCE)
        try:
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def status(self):
        return self.admin("GET", "/status").json()

    def metrics(self):
        """{(name, (("label", "value"), …)): number}"""
        reply = self.admin("GET", "/metrics")
        assert reply.status == 200
        return parse_metrics(reply.body.decode())

    def metric(self, name, **labels):
        """The sum of the series that have these labels."""
        wanted = set(labels.items())
        found = [v for (n, l), v in self.metrics().items() if n == name and wanted <= set(l)]
        assert found, f"no series {name} {labels}"
        return sum(found)

    def ledger(self, output):
        m = self.metrics()
        def total(name):
            return sum(v for (n, l), v in m.items() if n == name and ("output", output) in l)
        return {"accepted": total("penstock_events_accepted_total"), "pending": total("penstock_events_pending"),
                "delivered": total("penstock_events_delivered_total"), "dead": total("penstock_events_dead"),
                "dropped": total("penstock_events_dropped_total")}

    def check_ledgers(self):
        for output in self.config["outputs"]:
            l = self.ledger(output)
            assert l["accepted"] == l["pending"] + l["delivered"] + l["dead"] + l["dropped"], (output, l)

    def settled(self, output=None, timeout=20.0):
        """Waits until nothing is pending."""
        names = [output] if output else list(self.config["outputs"])
        until(lambda: all(self.ledger(n)["pending"] == 0 for n in names),
              f"nothing is pending (now {[self.ledger(n) for n in names]})", timeout)

    def stop(self, timeout=20.0):
        """SIGTERM, and it ends in order."""
        self.process.signal(signal.SIGTERM)
        assert self.process.wait(timeout) == 0, self.process.err()[-2000:]

    def kill(self):
        self.process.kill()

    # what an application does
    @property
    def address(self):
        return ("127.0.0.1", self.port)

    def wire(self, **more):
        return Wire(self.address, **more)

    def request(self, method, path, body=b"", headers=None, timeout=15.0):
        with self.wire(timeout=timeout) as w:
            w.request(method, path, body, {"Connection": "close", **(headers or {})})
            reply = w.reply(head_only=method == "HEAD")
            assert reply is not None, "no answer"
            return reply

    def post(self, events, path="/events", **headers):
        body = events if isinstance(events, (bytes, str)) else json.dumps(events)
        return self.request("POST", path, body, {"Content-Type": "application/json", **headers})

    def all_said(self):
        """Every line of standard error, of all of its lives."""
        return [line for path in sorted(self.world.dir.glob(f"*-{self.name}.err"))
                for line in path.read_text(errors="replace").splitlines()]

    def complaints(self):
        """Lines of standard error that nobody has explained."""
        if self.process is None:
            return []
        lines = []
        for line in self.all_said():
            # A change of an output's state is no complaint by itself: tests ask for the state.
            # So is what the tracer, which shares the stream, says of itself.
            calm = re.match(r"strace: |\S+Z (info |debug|\w+ +output \S+: (retrying|held|full|quota|partition \".*\" is held): )", line)
            calm = calm or (self.world.on_odd_disk and "the spool is on " in line)
            if line and not calm and not any(re.search(p, line) for p in self.expected):
                lines.append(line)
        return lines


def parse_metrics(text):
    series = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)', line)
        assert match, f"not the text format: {line!r}"
        labels = tuple(sorted(re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"', match.group(2) or "")))
        key = (match.group(1), labels)
        assert key not in series, f"a series twice: {line!r}"
        series[key] = float(match.group(3))
    return series


# --- upstreams ----------------------------------------------------------------------------------------------

CREDENTIALS = {
    "honeycomb": {"api_key": "hcaik_test"}, "langfuse": {"public_key": "pk-lf-test", "secret_key": "sk-lf-test"},
    "launchdarkly": {"access_token": "api-test", "sdk_key": "sdk-test"}, "monk": {"api_key": "mk_live_test"},
    "segops": {"api_key": "sk_live_test"},
}


class Sink:
    """`penstock sink`: an upstream that checks what it gets and does what it is told."""

    def __init__(self, world, tls=False, port=None, args=(), out=True, name="sink", cert=None, ca=None):
        """tls: with a certificate of its own; cert: (certificate, key), good to those who have `ca`."""
        self.world, self.name = world, name
        self.tls_dir = world.dir / f"{name}-tls" if tls is True else tls or None
        self.cert, self.ca = cert, ca or (self.tls_dir / "ca.pem" if self.tls_dir else None)
        self.out_path = world.dir / f"{name}.ndjson" if out else None
        self.port, self.args = port, list(args)
        self.start()

    def start(self):
        argv = [PENSTOCK, "sink", "--listen", f"127.0.0.1:{self.port or 0}", *self.args]
        if self.tls_dir:
            argv += ["--tls-self-signed", str(self.tls_dir)]
        if self.cert:
            argv += ["--cert", str(self.cert[0]), "--key", str(self.cert[1])]
        if self.out_path:
            argv += ["--out", str(self.out_path)]
        self.process = Process(self.world, self.name, argv)
        def listening():
            if not self.process.alive():
                raise Ended(f"{self.name} ended with {self.process.child.returncode}: {self.process.err()[-2000:]}")
            return re.search(r"listening on (https?)://[^ ]*:(\d+)", self.process.out())
        self.port = int(until(listening, "the sink listens").group(2))
        return self

    @property
    def url(self):
        return f"https://localhost:{self.port}" if self.tls_dir or self.cert else f"http://127.0.0.1:{self.port}"

    def output(self, type_="http", path=None, **more):
        """The configuration of an output that goes here; quick enough for tests."""
        out = {"type": type_, "endpoint": self.url + (path or {"http": "/in", "cloudevents": "/ce"}.get(type_, "")),
               "batch": {"max_wait": "20ms"}, "retry": {"initial": "50ms", "max": "1s"}}
        if type_ in CREDENTIALS:
            out["credentials"] = CREDENTIALS[type_]
        if type_ == "honeycomb":
            out["partition"] = "test"
        if type_ == "launchdarkly":
            out["partition"] = "shop/production"
        if type_ == "segops":
            out["rate_limit"] = {"requests": "10000/1m"}
        if self.ca:
            out["tls"] = {"ca_file": str(self.ca)}
        for key, value in more.items():
            if isinstance(value, dict) and isinstance(out.get(key), dict):
                out[key] = {**out[key], **value}
            else:
                out[key] = value
        return out

    def client_context(self):
        if not self.tls_dir and not self.cert:
            return None
        context = ssl.create_default_context(cafile=str(self.ca))
        context.check_hostname = False  # some tests serve under a wrong name on purpose
        return context

    def ask(self, method, path, body=b"", headers=None):
        with Wire(("127.0.0.1", self.port), tls=self.client_context()) as w:
            w.request(method, path, body, {"Connection": "close", **(headers or {})})
            return w.reply()

    def stats(self):
        return self.ask("GET", "/_sink/stats").json()

    def respond(self, rule):
        reply = self.ask("POST", "/_sink/respond", rule)
        assert reply.status == 200, reply
        return self

    def heal(self):
        assert self.ask("DELETE", "/_sink/respond").status == 200
        return self

    def received(self, taken=True):
        """What it has recorded, one dictionary per event."""
        with open(self.out_path, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        return [l for l in lines if l["taken"]] if taken else lines

    def numbers(self):
        """The n of every event() that it has taken, once each, in order of arrival."""
        seen = {}
        for line in self.received():
            e = line["event"]
            data = e.get("data") or e.get("payload") or e.get("properties") or e.get("body", {}).get("input") or {}
            seen.setdefault(data.get("n"), None)
        return list(seen)

    def check(self, unique=None):
        """Nothing that a vendor would mind, and each event once."""
        s = self.stats()
        assert s["violations"] == [], s["violations"]
        if unique is not None:
            assert s["unique"] == unique, s
        return s

    def stop(self):
        self.process.signal(signal.SIGTERM)
        assert self.process.wait() == 0, self.process.err()

    def kill(self):
        self.process.kill()


# --- certificates --------------------------------------------------------------------------------------------

class Authority:
    """A certificate authority by the openssl command, for certificates as they should not be."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True)
        self.ca = self.dir / "ca.pem"
        self.ca_key = self.dir / "ca.key"
        self.serial = 100
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                     "-subj", "/CN=test authority", "-addext", "basicConstraints=critical,CA:TRUE",
                     "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", self.ca_key, "-out", self.ca)

    def openssl(self, *args):
        done = run(["openssl", *map(str, args)])
        assert done.returncode == 0, done.stderr

    def issue(self, name, san="DNS:localhost,IP:127.0.0.1", begin="20200101000000Z", end="20400101000000Z", extra=""):
        """(certificate, key) paths."""
        cert, key, csr = (self.dir / f"{name}.{x}" for x in ("pem", "key", "csr"))
        config = self.dir / f"{name}.cnf"
        (self.dir / f"{name}.index").write_text("")
        self.serial += 1
        (self.dir / f"{name}.serial").write_text(f"{self.serial:04d}\n")
        config.write_text(f"""[ca]
default_ca = c
[c]
database = {self.dir}/{name}.index
serial = {self.dir}/{name}.serial
new_certs_dir = {self.dir}
default_md = sha256
policy = p
x509_extensions = e
unique_subject = no
[p]
commonName = supplied
[e]
basicConstraints = CA:FALSE
{'subjectAltName = ' + san if san else ''}
{extra}
""")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                     "-keyout", key, "-out", csr)
        self.openssl("ca", "-batch", "-config", config, "-cert", self.ca, "-keyfile", self.ca_key, "-in", csr, "-out", cert,
                     "-notext", "-startdate", begin, "-enddate", end)
        return cert, key


# --- a bad line ----------------------------------------------------------------------------------------------

class Doorman:
    """A listener whose every connection has a thread: what a proxy and a scripted upstream have in common. Whoever
    derives from it serves a connection in serve(socket, what next_plan() said when it came)."""

    def __init__(self, world, backlog=None):
        self.open, self.connections, self.closing = [], 0, False
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        world.proxies.append(self)

    def close(self):
        self.closing = True
        self.listener.close()
        self.reset_all()

    def take_open(self):
        """The connections of now, which are the caller's to end."""
        with self.lock:
            sockets, self.open = self.open, []
        return sockets

    def reset_all(self):
        """Breaks every connection that is open now."""
        for s in self.take_open():
            abort(s)

    def accept(self):
        while not self.closing:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            plan = self.next_plan()
            with self.lock:
                self.open.append(sock)
            threading.Thread(target=self.serve, args=(sock, plan), daemon=True).start()


class Proxy(Doorman):
    """A TCP line that can be told to misbehave: what it does with each new connection, in order, then `mode`.

    pass        carries bytes both ways              refuse     resets at once
    black_hole  takes everything, answers nothing    no_reply   carries the request, drops the answer and resets
    slow        carries 1 byte each 20 ms            garbage    answers with noise
    cut         carries `cut_after` bytes of the answer, then resets
    """

    def __init__(self, world, port, mode="pass"):
        self.port_up, self.mode, self.script, self.cut_after = port, mode, [], 10
        super().__init__(world)

    def next_plan(self):
        return self.script.pop(0) if self.script else self.mode

    def serve(self, client, mode):
        try:
            if mode == "refuse":
                reset(client)
            elif mode == "black_hole":
                while client.recv(65536):
                    pass
            elif mode == "garbage":
                client.recv(65536)
                client.sendall(b"\x00\xffnoise\r\n\r\n" * 50)
                client.close()
            else:
                self.carry(client, mode)
        except OSError:
            pass

    def carry(self, client, mode):
        server = socket.create_connection(("127.0.0.1", self.port_up))
        with self.lock:
            self.open.append(server)
        threading.Thread(target=self.pump, args=(client, server, mode if mode == "slow" else "pass"), daemon=True).start()
        self.pump(server, client, mode)

    def pump(self, source, target, mode):
        carried = 0
        try:
            while True:
                data = source.recv(65536 if mode != "slow" else 1)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                if mode == "no_reply":
                    abort(target)
                    abort(source)
                    return
                if mode == "slow":
                    time.sleep(0.02)
                if mode == "cut" and carried + len(data) >= self.cut_after:
                    target.sendall(data[:self.cut_after - carried])
                    abort(target)
                    abort(source)
                    return
                carried += len(data)
                target.sendall(data)
        except OSError:
            pass


def abort(s):
    """Ends a connection with RST and leaves its descriptor open, since another thread may be about to read from it:
    a closed number is given to the next socket, and that thread would take what belongs to it. Whoever reads finds the
    end and lets go of it."""
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # connect() to no address at all: TCP's disconnect.
        LIBC.connect(s.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16)
    except OSError:
        pass


def reset(s):
    """Closes with RST. Only for the one thread that reads from it."""
    abort(s)
    s.close()


# --- all of it -----------------------------------------------------------------------------------------------

class World:
    """What one test has started; ended and examined by close()."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        # A container's overlay, or a tmpfs: the agent warns of it, and rightly.
        self.on_odd_disk = run(["stat", "-f", "-c", "%T", directory]).stdout.strip() not in ("ext2/ext3", "xfs")
        self.serial = 0
        self.processes, self.agents, self.sinks, self.proxies = [], [], [], []

    def agent(self, outputs, **more):
        if self.agents and "name" not in more:
            more["name"] = f"agent{len(self.agents) + 1}"
        return Agent(self, outputs, **more)

    def sink(self, **more):
        if self.sinks and "name" not in more:
            more["name"] = f"sink{len(self.sinks) + 1}"
        sink = Sink(self, **more)
        self.sinks.append(sink)
        return sink

    def authority(self, name="authority"):
        return Authority(self.dir / name)

    def proxy(self, port, mode="pass"):
        return Proxy(self, port, mode)

    def examine(self):
        """What every agent owes at the end of every test."""
        for agent in self.agents:
            if agent.process is not None and agent.process.alive() and agent.ledger_holds:
                agent.check_ledgers()
        for agent in self.agents:
            assert agent.complaints() == [], f"unexplained on {agent.name}'s standard error"

    def close(self):
        for proxy in self.proxies:
            proxy.close()
        for process in self.processes:
            process.kill()
        shutil.rmtree(self.dir / "mnt", ignore_errors=True)
