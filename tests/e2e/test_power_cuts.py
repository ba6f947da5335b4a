"""Power failure under a real file system, write by write. Needs root, /dev/fuse and loop devices.

The agent runs on a file system (ext4) on a loop device whose backing file is served by power_recorder, which logs every block
write and flush in order; the sender writes a mark into the same log as soon as it has read an answer, and the
upstream one as it gets a batch and one when it has taken it. So every answer and every send has an exact place among
the writes. A power cut at any place leaves everything up to the last flush before it, and any part of what came after:
none, all, some sectors, in any order, one with garbage. Each such image is mounted (the kernel replays its journal),
an agent is started on it, and every event that was answered for before the cut must be delivered unless the upstream
had taken it before the cut, under the id that it was sent under before the cut if it was, with a ledger that balances.
PENSTOCK_POWER_CUTS changes the number of cuts, PENSTOCK_POWER_FS the file system (ext4, xfs, btrfs), PENSTOCK_POWER_MOUNT its
options.
"""
import collections
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import threading

import pytest
from front import Front
from harness import PENSTOCK, Process, event, needs_root, run, until, until_released

FS = os.environ.get("PENSTOCK_POWER_FS", "ext4")
SIZE_MIB, MAKE = {"ext4": (64, ["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"]),
                  "xfs": (320, ["-q", "-f", "-K"]), "btrfs": (128, ["-q", "-f", "-K", "-M"])}[FS]
CUTS = int(os.environ.get("PENSTOCK_POWER_CUTS", "100"))
MOUNT = os.environ.get("PENSTOCK_POWER_MOUNT", "data=ordered" if FS == "ext4" else "defaults")
SECTOR = 512
RECORDER = pathlib.Path(PENSTOCK).parent / "tests" / "power" / "power_recorder"


def must(argv):
    done = run(argv)
    if done.returncode != 0:
        pytest.skip(f"not run: power cuts on {FS}: {' '.join(map(str, argv))}: {done.stderr.strip()}")
    return done.stdout.strip()


class Mounted:
    """A file as a mounted file system."""

    def __init__(self, file, at):
        self.file, self.at = file, at
        self.at.mkdir(exist_ok=True)
        self.loop = must(["losetup", "--find", "--show", str(file)])
        self.mounted = False

    def make(self):
        must([f"mkfs.{FS}", *MAKE, self.loop])

    def mount(self):
        done = run(["mount", "-t", FS, "-o", MOUNT, self.loop, str(self.at)])
        assert done.returncode == 0, done.stderr
        self.mounted = True

    def close(self):
        if self.mounted:
            subprocess.run(["umount", str(self.at)], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["losetup", "-d", self.loop], check=False, stderr=subprocess.DEVNULL)
        until_released(self.file)


@pytest.fixture
def cleanup():
    todo = []
    yield todo
    for action in reversed(todo):
        action()


def small_output(sink):
    return sink.output("http", spool={"max_bytes": "16MiB", "segment_bytes": "1MiB"}, retry={"initial": "50ms", "max": "200ms"})


class Sender(threading.Thread):
    """Sends one request after the other on a connection of its own, and remembers what was answered for."""

    def __init__(self, agent, first, mark=lambda what, numbers: None):
        super().__init__(daemon=True)
        self.agent, self.next, self.mark = agent, first, mark
        self.acknowledged, self.offered, self.stop = [], 0, False

    def run(self):
        while not self.stop:
            count = 1 + self.next % 7
            numbers = list(range(self.next, self.next + count))
            self.next += count
            self.offered += count
            try:
                status = self.agent.post([event(n, size=200) for n in numbers]).status
            except Exception:
                return
            if status == 202:
                self.acknowledged += numbers
                self.mark("answered", numbers)


def read_log(path):
    records, at, data = [], 0, path.read_bytes()
    while at + 13 <= len(data):
        kind, offset, length = struct.unpack_from("<cQI", data, at)
        records.append((kind, offset, data[at + 13:at + 13 + length]))
        at += 13 + length
    return records


def record_a_run(world, cleanup):
    """Runs an agent under load on the recorder. Its upstream is away at first, and comes back in between."""
    if not RECORDER.exists():
        pytest.skip("not run: power cuts: power_recorder is not built (libfuse 3)")
    if shutil.which(f"mkfs.{FS}") is None:
        pytest.skip(f"not run: power cuts on {FS}: no mkfs.{FS}")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("not run: power cuts: no /dev/fuse")
    served, log = world.dir / "served", world.dir / "blocks.log"
    served.mkdir()
    recorder = Process(world, "recorder", [str(RECORDER), str(served), str(SIZE_MIB), str(log)])
    cleanup.append(lambda: subprocess.run(["fusermount3", "-u", "-z", str(served)], check=False, stderr=subprocess.DEVNULL))
    until(lambda: (served / "disk").exists() or not recorder.alive(), "the recorder serves")
    if not recorder.alive():
        pytest.skip(f"not run: power cuts: FUSE does not work here: {recorder.err().strip()}")
    disk = Mounted(served / "disk", world.dir / "mnt")
    cleanup.append(disk.close)
    disk.make()
    disk.mount()
    marks = os.open(served / "mark", os.O_WRONLY)
    lock = threading.Lock()

    def mark(what, numbers, batch=None):
        with lock:
            os.write(marks, json.dumps([what, batch, numbers]).encode())

    def marking(request):
        """Passes requests on to the sink, and notes when each came and when it was taken."""
        request.read()
        numbers, batch = [e["data"]["n"] for e in json.loads(request.body)], request.headers["idempotency-key"]
        mark("sent", numbers, batch)
        answer = request.ask_sink()
        if answer.startswith(b"HTTP/1.1 2"):
            mark("taken", numbers, batch)
        request.say(answer)

    sink = world.sink(args=["--respond", "status=503"])
    front = Front(world, sink.port, mode=marking)
    output = small_output(sink)
    output.update(endpoint=f"http://127.0.0.1:{front.port}/in", compression="none")
    agent = world.agent({"up": output}, data_dir=disk.at / "data").explain("up")
    agent.ledger_holds = False
    senders = [Sender(agent, first, mark) for first in (0, 1_000_000, 2_000_000)]
    for s in senders:
        s.start()

    def acknowledged():
        return sum(len(s.acknowledged) for s in senders)

    until(lambda: acknowledged() > 300, "events are stored", 60)
    sink.heal()
    until(lambda: sink.stats()["unique"] > 300 and acknowledged() > 900, "events are delivered", 60)
    sink.respond("status=503")
    until(lambda: acknowledged() > 1200, "more events are stored", 60)
    for s in senders:
        s.stop = True
    for s in senders:
        s.join(10)
    agent.kill()
    sink.kill()
    front.close()
    with lock:
        os.close(marks)
    cleanup.pop()()                 # disk.close
    cleanup.pop()()                 # fusermount3
    recorder.wait(20)
    return read_log(log)


def write_into(image, writes):
    with open(image, "r+b", buffering=0) as f:
        for offset, data in writes:
            os.pwrite(f.fileno(), data, offset)


def make_cut_image(image, base, tail, rng, how):
    """`base` holds what was flushed; of the writes behind it some part arrives."""
    subprocess.run(["cp", "--sparse=always", base, image], check=True)
    writes = [(o, d) for kind, o, d in tail if kind == b"W"]
    if how == "all":
        chosen = [(o, d) for o, d in writes]
    else:
        sectors = [(o + i, d[i:i + SECTOR]) for o, d in writes for i in range(0, len(d), SECTOR)]
        if how == "none" or not sectors:
            chosen = []
        elif how == "one":
            chosen = [rng.choice(sectors)]
        elif how == "reversed":
            chosen = [s for s in reversed(sectors) if rng.random() < 0.5]
        elif how == "garbage":
            o, d = rng.choice(sectors)
            chosen = [s for s in sectors if rng.random() < 0.5] + [(o, rng.randbytes(len(d)))]
        else:
            chosen = [s for s in sectors if rng.random() < 0.5]
    write_into(image, chosen)


def places(records, rng):
    """Where to cut: at marks, at flushes and beside them, and anywhere; behind the first mark only."""
    first = next(i for i, r in enumerate(records) if r[0] == b"M")
    aimed = [i + d for i, r in enumerate(records) if i > first and r[0] in (b"M", b"F") for d in (-1, 0, 1)]
    anywhere = range(first, len(records))
    return sorted(rng.choice(aimed) if n % 3 else rng.choice(anywhere) for n in range(CUTS))


class Known:
    """What was certain at a place in the log."""

    def __init__(self):
        self.answered, self.taken, self.sent = set(), set(), collections.defaultdict(set)

    def add(self, mark):
        what, batch, numbers = json.loads(mark)
        if what == "sent":
            for n in numbers:
                self.sent[n].add(batch)
        else:
            getattr(self, what).update(numbers)


@needs_root
def test_no_power_cut_takes_what_was_answered_for(world, cleanup, tmp_path):
    rng = random.Random(20260101)
    records = record_a_run(world, cleanup)
    kinds = [r[0] for r in records]
    assert kinds.count(b"M") > 100 and kinds.count(b"F") > 50, (kinds.count(b"M"), kinds.count(b"F"))
    known, told, again, pending = Known(), 0, 0, 0
    base, flushed, image_path = world.dir / "flushed.img", 0, world.dir / "cut.img"
    base.touch()
    os.truncate(base, SIZE_MIB << 20)
    hows = ["none", "all", "random", "reversed", "one", "garbage"]
    for n, cut in enumerate(places(records, rng)):
        last_flush = max((i for i in range(flushed, cut) if records[i][0] == b"F"), default=flushed)
        write_into(base, [(offset, data) for kind, offset, data in records[flushed:last_flush] if kind == b"W"])
        flushed = last_flush
        how = hows[n % len(hows)]
        make_cut_image(image_path, base, records[flushed:cut], rng, how)
        for kind, _, data in records[told:cut]:
            if kind == b"M":
                known.add(data)
        told = cut
        pending += len(known.answered - known.taken)
        again += check_image(world, cleanup, image_path, known, f"cut {n} at {cut} ({how})")
    print(f"{CUTS} cuts, {pending} times an event was owed after one, {again} times one had been sent before it")
    assert pending > CUTS and again > CUTS // 2, "too little was under way at the cuts: the test has shown nothing"


def check_image(world, cleanup, image_path, known, name):
    # Each cut is a history of its own, with an upstream of its own: two of them may give one id to different batches.
    sink = world.sink(name="after")
    disk = Mounted(image_path, world.dir / "mnt-cut")
    cleanup.append(disk.close)
    disk.mount()
    agent = world.agent({"up": small_output(sink)}, data_dir=disk.at / "data", name="cut")
    agent.explain("up", "data", "torn", "spool", "damage", "quarantine")
    agent.settled()
    ledger = agent.ledger("up")
    assert ledger["accepted"] == ledger["delivered"] + ledger["dead"] + ledger["dropped"], (name, ledger)
    assert ledger["dropped"] == 0 and ledger["dead"] == 0, (name, ledger)
    agent.kill()
    agent.ledger_holds = False
    batches = {line["event"]["data"]["n"]: line["batch"] for line in sink.received()}
    missing = known.answered - known.taken - set(batches)
    assert not missing, (name, len(missing), sorted(missing)[:5])
    renamed = {n: (known.sent[n], batch) for n, batch in batches.items() if n in known.sent and known.sent[n] != {batch}}
    assert not renamed, (name, len(renamed), list(renamed.items())[:3])
    sink.check()
    sink.kill()
    sink.out_path.unlink()
    cleanup.pop()()
    return sum(n in known.sent for n in batches)
