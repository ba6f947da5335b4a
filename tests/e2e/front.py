"""front: a scripted upstream. It does with each connection and with each request exactly what the next act says.

    front = Front(world, sink.port)                 # or with tls=(certificate, key)
    front.script = [reset_in_answer, black_hole]    # what the next requests get; after these `mode`, which is carry()
    ...
    front.one_identity_each("http")

An act is a function of a Request: it reads as much of it as it likes, asks the sink behind it as often as it likes,
and says the bytes that it likes, or ends the connection. A gate is an act upon a connection before its first byte
(and before TLS). Every request that was read whole is kept in `seen`, whatever became of it, so that the test can
hold the agent to this: an event that is sent again is sent under the identity, and in the bytes, that it had before.
"""
import collections
import json
import socket
import ssl
import threading

from harness import PATIENCE, Doorman, Wire, reset


class Gone(Exception):
    """The agent has ended the connection."""


Seen = collections.namedtuple("Seen", "path headers body")


class Request:
    """One request on a connection; of which at first nothing has been read but that it begins."""

    def __init__(self, front, sock, buffer):
        self.front, self.sock, self.buffer = front, sock, buffer
        self.head, self.body, self.over = None, b"", False

    # reading it
    def more(self, at_most=65536):
        data = self.sock.recv(at_most)
        if not data:
            raise Gone
        self.buffer += data

    def read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        self.head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = self.head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = lines[0].split(" ")
        self.headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}
        return self

    def read(self, piece=65536):
        """All of it. Small pieces make the agent wait with its writing."""
        if self.head is None:
            self.read_head()
        length = int(self.headers.get("content-length", "0"))
        while len(self.buffer) < length:
            self.more(piece)
        self.body, self.buffer = self.buffer[:length], self.buffer[length:]
        with self.front.lock:
            self.front.seen.append(Seen(self.path, self.headers, self.body))
        return self

    def ask_sink(self):
        """What the upstream proper answers to it, as bytes. From here on it has taken the events."""
        with Wire(("127.0.0.1", self.front.port_up), timeout=30) as w:
            lines = [line for line in self.head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            w.say(b"\r\n".join(lines) + b"\r\nConnection: close\r\n\r\n" + self.body)
            answer = b""
            while True:
                data = w.sock.recv(65536)
                if not data:
                    return answer.replace(b"Connection: close\r\n", b"")
                answer += data

    # saying something
    def say(self, data):
        self.sock.sendall(data)
        return self

    def reset(self):
        self.over = True
        reset(self.sock)

    def close(self):
        """An orderly end: what was said arrives."""
        self.over = True
        try:
            if isinstance(self.sock, ssl.SSLSocket):
                self.sock = self.sock.unwrap()
            self.sock.shutdown(socket.SHUT_WR)
            while self.sock.recv(65536):
                pass
        except (OSError, ValueError):
            pass
        self.sock.close()

    def half_close(self):
        """Says that no more comes, and reads no more either: what is not yet read never will be."""
        self.over = True
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def leave_it(self):
        """Neither reads nor says anything more, and keeps the connection."""
        self.over = True

    def wait_until_it_gives_up(self):
        try:
            while self.sock.recv(65536):
                pass
        except OSError:
            pass
        raise Gone


def carry(request):
    """As it should be."""
    request.read().say(request.ask_sink())


class Front(Doorman):
    def __init__(self, world, port_up, tls=None, mode=carry):
        """tls: (certificate, key), or a context of one's own."""
        self.port_up, self.mode, self.script, self.gates = port_up, mode, [], []
        self.context = tls
        if isinstance(tls, tuple):
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*map(str, tls))
        self.seen, self.errors = [], []
        super().__init__(world, backlog=64)

    def output(self, sink, api="http", **more):
        """The sink's output, by way of us."""
        out = sink.output(api, **more)
        scheme, host = ("https", "localhost") if self.context else ("http", "127.0.0.1")
        path = out["endpoint"].split("/", 3)[3] if out["endpoint"].count("/") > 2 else ""
        out["endpoint"] = f"{scheme}://{host}:{self.port}" + (f"/{path}" if path else "")
        return out

    def small_buffers(self):
        """From the next connection on little is on its way: who writes much waits for us to read."""
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return self

    def close_idle(self):
        """Ends every connection in order, as a server does that has waited long enough."""
        for s in self.take_open():
            try:
                socket.socket.shutdown(s, socket.SHUT_RDWR)  # of TCP; TLS is its own thread's
            except OSError:
                pass

    def next_plan(self):
        return self.gates.pop(0) if self.gates else None

    def serve(self, sock, gate):
        try:
            sock.settimeout(60 * PATIENCE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if gate is not None and gate(sock):
                return
            if self.context is not None:
                plain, sock = sock, self.context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
                with self.lock:
                    self.open = [s for s in self.open if s is not plain] + [sock]
            self.converse(sock)
        except (Gone, OSError, ValueError):
            try:
                sock.close()
            except OSError:
                pass
        except AssertionError as e:
            self.errors.append(e)

    def converse(self, sock):
        buffer = b""
        while True:
            request = Request(self, sock, buffer)
            if not buffer:
                request.more(1)
            with self.lock:
                act = self.script.pop(0) if self.script else self.mode
            act(request)
            if request.over:
                return
            buffer = request.buffer

    # what the requests were
    def identities(self, api):
        """{event: {(identity, body)}}: under what, and in what, each event came. Bodies are not compressed here."""
        found = collections.defaultdict(set)
        with self.lock:
            seen = list(self.seen)
        for s in seen:
            for event, identity in events_of(api, s):
                found[event].add((identity, s.body))
        return found

    def one_identity_each(self, api):
        """Whatever was sent again was the same batch, byte for byte, under the same name."""
        for event, ways in self.identities(api).items():
            assert len(ways) == 1, f"event {event} came in {len(ways)} different batches: {[w[0] for w in ways]}"
        by_name = {}
        for ways in self.identities(api).values():
            for identity, body in ways:
                assert by_name.setdefault(identity, body) == body or api not in BATCH_NAMES, f"{identity} names two batches"

    def sends(self, api):
        """How often each event came."""
        return collections.Counter(event for s in list(self.seen) for event, _ in events_of(api, s))

    def repeats(self, api):
        """How often an event came again."""
        return sum(n - 1 for n in self.sends(api).values())


# The header that names a batch, where the api has one; elsewhere each event has its own name, or none.
BATCH_NAMES = {"http": "idempotency-key", "launchdarkly": "x-launchdarkly-payload-id"}


def events_of(api, seen):
    """(event, identity) of each event in a request, by what this vendor tells repeats by. None: it cannot."""
    if api in ("otlp", "langfuse otel"):
        return [(seen.body, None)]
    if api == "launchdarkly sdk":
        return [(seen.body, seen.headers["x-launchdarkly-payload-id"])]
    events = json.loads(seen.body)
    if api in ("langfuse", "segops"):
        events = events["batch" if api == "langfuse" else "events"]
    elif api == "monk":
        events = events.get("events", [events])
    if isinstance(events, dict):
        events = [events]
    if api in BATCH_NAMES:
        assert BATCH_NAMES[api] in seen.headers, "a batch without its name"
        return [(json.dumps(e), seen.headers[BATCH_NAMES[api]]) for e in events]
    name = {"langfuse": "id", "monk": "idempotencyKey", "cloudevents": "id"}.get(api)
    return [(json.dumps(e), e[name] if name else None) for e in events]


# --- acts -----------------------------------------------------------------------------------------------------

OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GOOD = OK_HEAD + b"Content-Length: 2\r\n\r\n{}"


def reset_before_the_request(request):
    request.reset()


def reset_in_the_request(request):
    request.more(100)
    request.reset()


def reset_before_the_answer(request):
    request.read().reset()


def reset_when_taken(request):
    request.read().ask_sink()
    request.reset()


def part_of_the_answer(end, share):
    def act(request):
        answer = request.read().ask_sink()
        head, body = answer.split(b"\r\n\r\n", 1)
        cut = {"line": 7, "head": len(head) // 2, "headers": len(head) + 4, "body": len(head) + 4 + max(1, len(body) // 2),
               "all": len(answer)}[share]
        request.say(answer[:cut])
        getattr(request, end)()
    act.__name__ = f"{end}_after_{share}_of_the_answer"
    return act


def black_hole(request):
    request.read().wait_until_it_gives_up()


def slow_reader(request):
    request.read(piece=16384).say(request.ask_sink())


def slow_answer(request):
    for byte in request.read().ask_sink():
        request.say(bytes([byte]))


def says(name, data, end="close", taken=False, early=False):
    """Reads the request (unless early) and says just that."""
    def act(request):
        if not early:
            request.read()
        if taken:
            request.ask_sink()
        request.say(data)
        if end is not None:
            getattr(request, end)()
    act.__name__ = name
    return act


def before_the_answer(name, data):
    """Interim answers, then the true one."""
    def act(request):
        request.read().say(data).say(request.ask_sink())
    act.__name__ = name
    return act


def rewritten(name, change, end="close"):
    """The true answer, with another head."""
    def act(request):
        head, body = request.read().ask_sink().split(b"\r\n\r\n", 1)
        request.say(change(head, body))
        if end is not None:
            getattr(request, end)()
    act.__name__ = name
    return act


def without(head, *names):
    return b"\r\n".join(line for line in head.split(b"\r\n") if line.split(b":")[0].lower() not in names)


def chunked(body):
    return b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 3]), body[i:i + 3]) for i in range(0, len(body), 3)) + b"0\r\n\r\n"
