"""The vendors' own clients, from the npm registry and the Python package index, against an agent that is well, full, stopping, or killed.

Each client's script (sdk/CLIENT.mjs) sends numbered events and says which of them its client believes sent. What it
believes, the upstream must end up with: each number, under one identity, that by which this vendor tells repeats.
And no client may be silenced: after the trouble is over, its last event is among those that it believes sent.

The clients' versions are pinned (sdk/package.json, sdk/package-lock.json, sdk/requirements.txt) and installed into
build/sdk and build/sdk-python. Where node, npm, or the registry cannot be had, those clients do not run, and say so.
"""
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from harness import PATIENCE, ROOT, Process, until

SOURCES = ROOT / "tests" / "e2e" / "sdk"
PLACE = ROOT / "build" / "sdk"
INSTALL_SECONDS = 120
COUNT = 60


@pytest.fixture(scope="session")
def clients():
    """The directory with the installed clients and the scripts beside them (modules are looked up from there)."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("not run: the vendors' clients need node and npm")
    PLACE.mkdir(parents=True, exist_ok=True)
    lock = (SOURCES / "package-lock.json").read_bytes()
    installed = PLACE / "installed.json"
    if not installed.exists() or installed.read_bytes() != lock:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(SOURCES / name, PLACE / name)
        argv = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(PLACE)]
        try:
            done = subprocess.run(argv, cwd=PLACE, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False,
                                  stdin=subprocess.DEVNULL)
            failure = " ".join(done.stderr.split())[-300:] if done.returncode != 0 else None
        except subprocess.TimeoutExpired:
            failure = f"not within {INSTALL_SECONDS} s"
        if failure is not None:
            pytest.skip(f"not run: the vendors' clients could not be installed: {failure}")
        installed.write_bytes(lock)
    for script in SOURCES.glob("*.mjs"):
        shutil.copy(script, PLACE / script.name)
    return ["node"], PLACE


PYTHON_PLACE = ROOT / "build" / "sdk-python"


@pytest.fixture(scope="session")
def python_clients():
    """The same for the clients in Python, in an environment of their own."""
    wanted = (SOURCES / "requirements.txt").read_bytes()
    installed = PYTHON_PLACE / "installed.txt"
    python = PYTHON_PLACE / "bin" / "python"
    if not installed.exists() or installed.read_bytes() != wanted:
        make = [sys.executable, "-m", "venv", "--clear", str(PYTHON_PLACE)]
        fill = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(SOURCES / "requirements.txt")]
        try:
            for argv in (make, fill):
                done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False, stdin=subprocess.DEVNULL)
                if done.returncode != 0:
                    pytest.skip(f"not run: the clients in Python could not be installed: {' '.join((done.stderr or done.stdout).split())[-300:]}")
        except subprocess.TimeoutExpired:
            pytest.skip(f"not run: the clients in Python could not be installed within {INSTALL_SECONDS} s")
        installed.write_bytes(wanted)
    return [str(python)], SOURCES


class Client(Process):
    """One run of a client's script."""

    def __init__(self, world, clients, name, address, count=COUNT):
        self.count = count
        interpreter, directory = clients
        script = directory / (f"{name}.py" if name.startswith("python-") else f"{name}.mjs")
        environment = {"NO_PROXY": "*", "no_proxy": "*", "HTTP_PROXY": "", "HTTPS_PROXY": "", "http_proxy": "", "https_proxy": ""}
        super().__init__(world, name, [*interpreter, str(script), address, str(count)], env=environment,
                         stdin=subprocess.PIPE)

    def handed(self):
        """How many events the client was given so far."""
        return len(re.findall(r"(?m)^\d+$", self.out()))

    def until_handed(self, n):
        until(lambda: self.handed() >= n or not self.alive(), f"{n} events are handed to the client", 20)
        assert self.alive() or self.child.returncode == 0, self.err()[-3000:]

    def go_on(self):
        self.child.stdin.close()
        return self

    def believes(self, timeout=30):
        """What it believes sent, at its end."""
        assert self.wait(timeout) == 0, self.err()[-3000:]
        sent = json.loads(self.out().splitlines()[-1])["sent"]
        assert self.handed() == self.count
        assert self.count - 1 in sent, f"the client was silenced: {sent}\n{self.err()[-3000:]}"
        return sent


def by_id(line):
    return line["id"]


def by_batch(line):
    """LaunchDarkly's payload id; index and custom events of one payload share it."""
    return line["batch"]


def by_bytes(line):
    """Honeycomb events have no identity, and OTLP requests are opaque: their bytes are all there is."""
    return json.dumps(line["event"], sort_keys=True) if "event" in line else line["opaque"]


# client -> the output's type, what the upstream knows a repeat by, a neutral type that the output takes
KINDS = {
    "libhoney": ("honeycomb", by_bytes, "clients.fill"),
    "langfuse3": ("langfuse", by_id, "langfuse.event-create"),
    "langfuse5-scores": ("langfuse", by_id, "langfuse.event-create"),
    "langfuse5-spans": ("langfuse", by_bytes, "langfuse.event-create"),
    "launchdarkly": ("launchdarkly", by_batch, "clients.fill"),
    "python-libhoney": ("honeycomb", by_bytes, "clients.fill"),
    "python-langfuse-scores": ("langfuse", by_id, "langfuse.event-create"),
    "python-langfuse-spans": ("langfuse", by_bytes, "langfuse.event-create"),
    "python-launchdarkly": ("launchdarkly", by_batch, "clients.fill"),
    "cloudevents": ("http", by_id, "clients.fill"),
    "fluent-logger": ("http", by_id, "clients.fill"),
    "fluent-org-logger": ("http", by_id, "clients.fill"),
}
STREAM = ("fluent-logger", "fluent-org-logger")
# What these send again carries nothing by which the agent could know it: it may arrive once more.
UNKNOWN_REPEATS = ("langfuse5-spans", "fluent-org-logger", "python-langfuse-spans", "python-libhoney")
# A request of these is one event to the agent, and each score in it one to the sink.
WHOLE_REQUESTS = ("python-langfuse-scores",)


def settle(agent, sink, client, calm=False, output="up"):
    """Everything that the client believes sent has arrived, under one identity each, and nothing else."""
    believed = client.believes()
    agent.settled(timeout=30)
    identify = KINDS[client.name][1]
    arrived, times = {}, {}
    for line in sink.received():
        times.setdefault(identify(line), set()).add(line["request"])
        for n in {int(n) for n in re.findall(r"num-(\d+)", json.dumps(line))}:
            arrived.setdefault(n, set()).add(identify(line))
    missing = set(believed) - set(arrived)
    assert not missing, f"believed sent, and never arrived: {sorted(missing)}"
    assert set(arrived) <= set(range(client.count))
    sink.check()
    if calm or client.name not in UNKNOWN_REPEATS:
        twice = {n: ids for n, ids in arrived.items() if len(ids) != 1}
        assert not twice, f"arrived under several identities: {twice}"
        # The agent has counted what it may have sent twice.
        repeats = sum(len(requests) - 1 for requests in times.values())
        if client.name in WHOLE_REQUESTS:
            repeats = max(len(requests) - 1 for requests in times.values())
        assert repeats <= agent.metric("penstock_events_repeated_total", output=output)
    return believed


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture
def client_of(request, kind):
    return request.getfixturevalue("python_clients" if kind.startswith("python-") else "clients")


def make(world, kind, *rules, **more):
    sink = world.sink(args=[a for rule in rules for a in ("--respond", rule)])
    output = sink.output(KINDS[kind][0], retry={"initial": "20ms", "max": "100ms"}, **more)
    agent = world.agent({"up": output}, agent={"drain_timeout": "500ms"}, start=False)
    if kind in STREAM:
        agent.config["inputs"]["stream"] = {"type": "unix", "path": str(world.dir / "stream.sock")}
    return agent.start(), sink


def start(world, client_of, kind, agent):
    return Client(world, client_of, kind, str(world.dir / "stream.sock") if kind in STREAM else f"http://127.0.0.1:{agent.port}")


def test_a_healthy_agent(world, client_of, kind):
    agent, sink = make(world, kind)
    client = start(world, client_of, kind, agent).go_on()
    assert settle(agent, sink, client, calm=True) == list(range(COUNT))
    assert sink.stats()["repeated"] == 0


def test_a_full_agent(world, client_of, kind):
    """Its upstream is down and its spool full when the client begins; later there is room again."""
    agent, sink = make(world, kind, "status=503", spool={"max_bytes": "4MiB", "segment_bytes": "1MiB", "when_full": "block"})
    agent.explain("up", "full")
    fill(agent, KINDS[kind][2])
    accepted = agent.ledger("up")["accepted"]
    refused = agent.metric("penstock_events_rejected_total", reason="full")
    client = start(world, client_of, kind, agent)
    if kind in STREAM:  # a stream is not refused, it is left unread
        client.until_handed(COUNT // 4)
        assert agent.ledger("up")["accepted"] <= accepted + 2  # one that is smaller than the last to fill it may fit
    else:
        until(lambda: agent.metric("penstock_events_rejected_total", reason="full") > refused, "the client is refused", 20)
    sink.heal()
    client.until_handed(COUNT // 2)
    agent.settled(timeout=30)
    until(lambda: agent.admin("GET", "/readyz").status == 200, "there is room again")
    client.go_on()
    settle(agent, sink, client)


def fill(agent, type_):
    """Events until there is not even room for a small one."""
    for size in (60000, 6000, 100):
        for n in range(5000):
            data = {"name": "fill", "pad": "x" * min(size, 60000)}
            status = agent.post([{"id": f"fill-{size}-{n}", "type": type_, "source": "/fill", "subject": "u", "data": data}]).status
            if status == 429:
                break
            assert status == 202, (status, type_)
        else:
            raise AssertionError("the spool never fills")


def test_a_stopping_agent(world, client_of, kind):
    """SIGTERM while the client sends and the upstream takes nothing, then the next agent on the same spool."""
    agent, sink = make(world, kind, "status=503")
    agent.explain("up", "drain")
    client = start(world, client_of, kind, agent)
    client.until_handed(10)
    agent.stop()
    agent.start()
    sink.heal()
    client.go_on()
    settle(agent, sink, client)


def test_a_killed_agent(world, client_of, kind):
    """kill -9 while the client sends and the upstream takes half of it, then the next agent on the same spool."""
    agent, sink = make(world, kind, "status=503,chance=50")
    agent.explain("up", "recover")
    client = start(world, client_of, kind, agent)
    client.until_handed(10)
    agent.kill()
    agent.start()
    sink.heal()
    client.go_on()
    settle(agent, sink, client)
