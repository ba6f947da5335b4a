"""The agent under load: a release build, `penstock sink` behind TLS, and an agent whose durability, compression and
TLS are always on."""
import json
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request

from processes import Process, free_port, free_udp_port, wait_for, wait_for_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "bench"
EVENT_BYTES = 300
# A segment file is written over from its second life on, which costs the file system half as much per commit as the
# first time and a third of the time: a spool comes to this when its oldest files are no longer kept for their ids, after
# five minutes or an eighth of max_bytes. These sizes and this many events before a measurement bring it there at once.
SPOOL = "segment_bytes: 8MiB, max_bytes: 256MiB"
SPOOL_WARM_EVENTS = 160_000


def build():
    launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    for command in (["cmake", "-S", str(ROOT), "-B", str(BUILD), "-G", "Ninja", *launcher],
                    ["ninja", "-C", str(BUILD), "penstock", "bench_load", "bench_limits"]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(done.stdout)


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


class Bench:
    """A sink and an agent with one input, in a directory of their own."""

    def __init__(self, directory, driver, prefix=(), outputs=1, different=False, spool=SPOOL):
        self.driver, self.spool = driver, spool
        self.outputs, self.different = outputs, different
        self.dir = pathlib.Path(directory)
        self.log = open(self.dir / "log", "wb")
        self.ports = {name: free_port() for name in ("http", "admin", "sink")}
        self.ports["udp"] = free_udp_port()
        binary = str(BUILD / "penstock")
        self.sink = Process([binary, "sink", "--listen", f"127.0.0.1:{self.ports['sink']}", "--api", "http",
                             "--tls-self-signed", str(self.dir / "tls")], self.log)
        wait_for_port(self.ports["sink"])
        (self.dir / "agent.yaml").write_text(self.config())
        self.agent = Process([*prefix, binary, "run", "-c", str(self.dir / "agent.yaml")], self.log)
        wait_for(lambda: get(f"http://127.0.0.1:{self.ports['admin']}/readyz"), 120)

    def config(self):
        return f"""
agent: {{ name: bench, data_dir: {self.dir}/data, drain_timeout: 60s }}
admin: {{ listen: "127.0.0.1:{self.ports['admin']}" }}
inputs:
  in: {self.input()}
outputs:
{"".join(self.output(n) for n in range(self.outputs))}
routes:
{self.routes()}
"""

    def output(self, n):
        return f"""  up{n}:
    type: http
    endpoint: https://127.0.0.1:{self.ports['sink']}/events
    compression: gzip
    tls: {{ ca_file: {self.dir}/tls/ca.pem }}
    spool: {{ durability: fsync, {self.spool} }}
"""

    def routes(self):
        """Each output its own type of event, or all outputs every event."""
        names = [f"up{n}" for n in range(self.outputs)]
        if self.different and self.outputs > 1:
            return "\n".join(f'  - {{ when: {{ type: "bench.request.{n}" }}, to: [{name}] }}' for n, name in enumerate(names))
        return f"  - {{ to: [{', '.join(names)}] }}"

    def input(self):
        if self.driver == "http":
            return f"{{ type: http, listen: \"127.0.0.1:{self.ports['http']}\" }}"
        if self.driver == "udp":
            return f"{{ type: udp, listen: \"127.0.0.1:{self.ports['udp']}\", receive_buffer: 16MiB }}"
        return f"{{ type: unix, path: {self.dir}/unix.sock }}"

    def where(self, driver):
        if driver in ("unix", "fwd"):
            return str(self.dir / "unix.sock")
        return f"127.0.0.1:{self.ports[driver]}"

    def metric(self, name):
        text = get(f"http://127.0.0.1:{self.ports['admin']}/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    def settle(self, offered, seconds=120):
        """Waits until the agent has met `offered` events (datagrams may still be in the socket's buffer when their
        sender ends) and has delivered what it took."""
        end = time.monotonic() + seconds
        while self.metric("penstock_events_received_total") < offered and time.monotonic() < end:
            time.sleep(0.02)
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['admin']}/flush?wait={seconds}s", method="POST")
        with urllib.request.urlopen(request, timeout=seconds + 10):
            pass

    def unique(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(f"https://127.0.0.1:{self.ports['sink']}/_sink/stats", context=context) as answer:
            return json.load(answer)["unique"]

    def warm(self, seed=1000):
        """Events at full speed until each spool uses its files again; returns how many."""
        options = {"unix": ["--write", "65536"], "udp": ["--rate", "100000"]}.get(
            self.driver, ["--per-request", "100", "--types", str(self.outputs if self.different else 1)])
        sent = drive(self.where(self.driver), self.driver,
                     SPOOL_WARM_EVENTS * (self.outputs if self.different else 1), options, seed)["accepted"]
        self.settle(sent)
        return sent

    def ready_ms(self):
        """As the agent itself says it, from the start of the process."""
        return float(re.search(r"ready: .*, (\d+) ms after the start", (self.dir / "log").read_text()).group(1))

    def post(self, path):
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['admin']}{path}", method="POST")
        with urllib.request.urlopen(request, timeout=30):
            pass

    def stop(self):
        for process in (self.agent, self.sink):
            process.stop()
        self.log.close()


def drive(where, driver, events, options, seed):
    done = subprocess.run([str(BUILD / "tests/bench/bench_load"), driver, where, "--events", str(events), "--bytes",
                           str(EVENT_BYTES), "--seed", str(seed), "--time-limit", "300", *options],
                          capture_output=True, text=True, timeout=400)
    if not done.stdout:
        sys.exit(f"bench_load: {done.stderr}")
    return json.loads(done.stdout)
