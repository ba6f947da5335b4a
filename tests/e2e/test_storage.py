"""Storage that goes wrong under a running agent, with real causes: limits, a directory that is removed, a file system that
turns read-only, a device whose flush fails or is slow, a wall clock that is a year off.

Wherever an agent has to give up, it ends with 74 and says why, what was answered is delivered by the next one, and nobody
was answered who should not have been.
"""
import json
import os
import pathlib
import shutil
import subprocess
import threading

import pytest
from harness import PENSTOCK, Process, event, needs_root, run, until

POWER = pathlib.Path(PENSTOCK).parent / "tests" / "power"
RECORDER, CLOCK = POWER / "power_recorder", POWER / "power_clock.so"
SPOOL = {"max_bytes": "16MiB", "segment_bytes": "1MiB"}
WORDS = ("up", "storage", "disk", "data", "spool", "log", "drain", "statistics", "write", "sync", "room", "full")


def offer(agent, numbers, size=20000):
    """What of it was answered for; stops where the agent does."""
    accepted = []
    for n in numbers:
        try:
            if agent.post(event(n, size=size)).status == 202:
                accepted.append(n)
        except (OSError, AssertionError):
            break
        if not agent.process.alive():
            break
    return accepted


def ends_with_74(agent, *words):
    assert agent.process.wait(30) == 74, agent.process.err()[-2000:]
    said = agent.process.err()
    assert any(w in said for w in words), said[-2000:]


def starts_again_and_delivers(agent, sink, accepted):
    sink.heal()
    agent.start()
    agent.settled(timeout=30)
    assert set(accepted) <= set(sink.numbers())
    agent.check_ledgers()
    assert sink.check()["violations_total"] == 0


def test_a_limit_on_file_sizes_is_an_error_with_a_reason(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http", spool=dict(SPOOL))}, start=False, wrapper=("prlimit", "--fsize=300000"))
    agent.explain(*WORDS, "large")
    agent.launch()
    ends_with_74(agent, "File too large")
    agent.wrapper = ()
    agent.start()
    accepted = offer(agent, [1])
    agent.kill()
    starts_again_and_delivers(agent, sink, accepted)
    assert accepted == [1]


def test_without_descriptors_nothing_that_was_answered_is_lost(world):
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http", spool=dict(SPOOL))}).explain(*WORDS, "descriptor", "files", "connection", "accept")
    accepted = offer(agent, range(20))
    with agent.wire() as w:   # before the limit: a connection that is there goes on
        limit = len(os.listdir(f"/proc/{agent.process.pid}/fd"))
        assert run(["prlimit", "--pid", str(agent.process.pid), f"--nofile={limit}:4096"]).returncode == 0
        refused = 0
        for n in range(100, 200):   # two segments' worth: the next one cannot be opened
            w.request("POST", "/events", json.dumps(event(n, size=20000)))
            reply = w.reply()
            assert reply is not None and reply.status in (202, 429, 503), reply
            if reply.status == 202:
                accepted.append(n)
            else:
                refused += 1
                if refused > 2:
                    break
        assert agent.process.alive()
        assert run(["prlimit", "--pid", str(agent.process.pid), "--nofile=4096:4096"]).returncode == 0
    sink.heal()
    until(lambda: agent.post(event(500)).status == 202, "taken again", 20)
    agent.settled(timeout=30)
    assert set(accepted) <= set(sink.numbers())
    assert refused > 0, "the limit was never felt: the test has shown nothing"


def test_a_directory_that_is_removed_ends_it_with_a_reason(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http", spool=dict(SPOOL))}, agent={"drain_timeout": "1s"}).explain(*WORDS)
    offer(agent, range(5))
    agent.settled()
    agent.ledger_holds = False
    shutil.rmtree(agent.data_dir)
    offer(agent, range(100, 400))
    ends_with_74(agent, "storage failed")
    accepted = []
    agent.start()
    accepted = offer(agent, range(1000, 1005))
    agent.settled()
    assert len(accepted) == 5 and set(accepted) <= set(sink.numbers())


def test_a_clock_that_goes_back_a_year_loses_and_repeats_nothing(world):
    if not CLOCK.exists():
        pytest.skip("not run: a wrong clock: power_clock.so is not built")
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http", spool={**SPOOL, "max_age": "1h"})}).explain("up")
    year, accepted = 365 * 86400, []
    lives = (0, -year, 10 * year, -year)
    for life, shift in enumerate(lives):
        if life > 0:
            agent.kill()
            agent.env = {"LD_PRELOAD": str(CLOCK), "PENSTOCK_CLOCK_SHIFT": str(shift)}
            agent.start()
        accepted += offer(agent, range(life * 100, life * 100 + 60))
    assert len(accepted) == 60 * len(lives)
    agent.check_ledgers()
    # Events of a time to come are as new as can be; those of ten years before the third life's now had aged by then.
    sink.heal()
    agent.settled(timeout=30)
    ledger = agent.ledger("up")
    assert ledger["dead"] == 0 and ledger["delivered"] + ledger["dropped"] == len(accepted), ledger
    assert ledger["delivered"] == len(set(sink.numbers()))
    assert set(range(300, 360)) <= set(sink.numbers()), "nothing of the last life had aged"
    assert sink.check()["violations_total"] == 0


# --- file systems on a loop device ----------------------------------------------------------------------------

def must(argv, what):
    done = run(argv)
    if done.returncode != 0:
        pytest.skip(f"not run: {what}: {argv[0]}: {done.stderr.strip()[:200]}")
    return done.stdout.strip()


@pytest.fixture
def cleanup():
    todo = []
    yield todo
    for action in reversed(todo):
        action()


def quietly(*argv):
    return lambda: subprocess.run(argv, check=False, capture_output=True)


def unmount(mount, loop):
    """And waits until the file system has gone: another process's copy of the mount keeps it, as it is."""
    assert run(["umount", str(mount)]).returncode == 0
    until(lambda: os.close(os.open(loop, os.O_RDONLY | os.O_EXCL)) is None, f"{loop} is let go of", 60)


def ended(world):
    for agent in world.agents:
        if agent.process is not None:
            agent.process.kill()


@needs_root
def test_a_file_system_that_turns_read_only_ends_it_and_is_taken_up_again(world, cleanup):
    """As ext4 does by itself when it meets an error (errors=remount-ro); the error is asked for through sysfs."""
    image, mount = world.dir / "disk.img", world.dir / "mnt"
    mount.mkdir()
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    must(["mkfs.ext4", "-q", "-F", str(image)], "read-only")
    loop = must(["losetup", "--find", "--show", str(image)], "read-only")
    cleanup.append(quietly("losetup", "-d", loop))
    must(["mount", "-o", "errors=remount-ro", loop, str(mount)], "read-only")
    cleanup.append(quietly("umount", "-l", str(mount)))
    cleanup.append(lambda: ended(world))
    trigger = pathlib.Path(f"/sys/fs/ext4/{pathlib.Path(loop).name}/trigger_fs_error")
    if not trigger.exists():
        pytest.skip("not run: read-only: no trigger_fs_error in /sys/fs/ext4")
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http", spool=dict(SPOOL))}, data_dir=mount / "data", agent={"drain_timeout": "1s"})
    agent.explain(*WORDS, "Read-only")
    accepted = offer(agent, range(30))
    assert len(accepted) == 30
    agent.ledger_holds = False
    trigger.write_text("a test asks for it")
    late = offer(agent, range(100, 200))
    ends_with_74(agent, "Read-only", "storage failed")
    agent.launch()   # and there is no start on it
    assert agent.process.wait(30) != 0
    assert "Read-only" in agent.process.err()
    unmount(mount, loop)
    quietly("e2fsck", "-fy", loop)()
    must(["mount", loop, str(mount)], "read-only")
    agent.ledger_holds = True
    starts_again_and_delivers(agent, sink, accepted + late)


def on_the_recorder(world, cleanup, kind):
    """A file system of that kind whose device does as it is told. Returns where it is mounted, its device, and who to tell."""
    size = {"ext4": 64, "xfs": 320}[kind]
    if not RECORDER.exists() or not os.path.exists("/dev/fuse"):
        pytest.skip(f"not run: a failing flush under {kind}: no power_recorder or no /dev/fuse")
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"not run: a failing flush under {kind}: no mkfs.{kind}")
    served, mount = world.dir / "served", world.dir / "mnt"
    served.mkdir()
    mount.mkdir()
    recorder = Process(world, "recorder", [str(RECORDER), str(served), str(size), "/dev/null"])
    cleanup.append(quietly("fusermount3", "-u", "-z", str(served)))
    until(lambda: (served / "disk").exists() or not recorder.alive(), "the recorder serves")
    if not recorder.alive():
        pytest.skip(f"not run: FUSE does not work here: {recorder.err().strip()}")
    loop = must(["losetup", "--find", "--show", str(served / "disk")], kind)
    cleanup.append(quietly("losetup", "-d", loop))
    must([f"mkfs.{kind}", "-q", *(["-F"] if kind == "ext4" else ["-f"]), loop], kind)
    must(["mount", "-t", kind, loop, str(mount)], kind)
    cleanup.append(quietly("umount", "-l", str(mount)))
    cleanup.append(lambda: ended(world))

    def tell(order):
        fd = os.open(served / "mark", os.O_WRONLY)
        try:
            os.write(fd, order.encode())
        finally:
            os.close(fd)

    cleanup.append(lambda: tell("!well"))
    return mount, loop, tell


@needs_root
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_flush_that_fails_answers_nobody(world, cleanup, kind):
    mount, loop, tell = on_the_recorder(world, cleanup, kind)
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http", spool=dict(SPOOL))}, data_dir=mount / "data", agent={"drain_timeout": "1s"})
    agent.explain(*WORDS, "Input/output", "Read-only")
    accepted = offer(agent, range(30))
    assert len(accepted) == 30
    agent.ledger_holds = False
    tell("!fail")
    late = offer(agent, range(100, 110))
    ends_with_74(agent, "storage failed")
    assert late == [], "answered although no flush had succeeded"
    tell("!well")
    unmount(mount, loop)
    must(["mount", "-t", kind, loop, str(mount)], kind)
    agent.ledger_holds = True
    starts_again_and_delivers(agent, sink, accepted)


@needs_root
def test_on_a_slow_disk_those_who_wait_share_a_flush(world, cleanup):
    mount, _, tell = on_the_recorder(world, cleanup, "ext4")
    sink = world.sink()
    agent = world.agent({"up": sink.output("http", spool=dict(SPOOL))}, data_dir=mount / "data").explain(*WORDS)
    accepted, lock = [], threading.Lock()

    def sender(first):
        mine = offer(agent, range(first, first + 20), size=200)
        with lock:
            accepted.extend(mine)

    tell("!slow 20")
    before = agent.metric("penstock_commit_seconds_count", output="up")
    senders = [threading.Thread(target=sender, args=(100 * i,)) for i in range(8)]
    for s in senders:
        s.start()
    for s in senders:
        s.join()
    assert len(accepted) == 160
    commits = agent.metric("penstock_commit_seconds_count", output="up") - before
    assert commits < 160, "everybody had a flush of his own"
    tell("!well")
    agent.settled(timeout=30)
    assert set(accepted) <= set(sink.numbers())
