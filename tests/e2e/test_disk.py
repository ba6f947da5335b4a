"""Disks as they are: full, on a small file system of their own. Needs root for the mount."""
import itertools
import subprocess

import pytest
from harness import Ended, event, needs_root, run, until


@pytest.fixture
def small_disk(world):
    """A file system of a few MiB; unmounted at the end."""
    mount = world.dir / "mnt"
    mount.mkdir()
    done = run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", str(mount)])
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    yield mount
    for agent in world.agents:
        if agent.process is not None:
            if agent.process.alive() and agent.ledger_holds:
                agent.check_ledgers()
            agent.process.kill()
    subprocess.run(["umount", "-l", str(mount)], check=False)


def fill(path, leave):
    """Takes the file system's room until about so many bytes are left."""
    import os
    room = os.statvfs(path.parent)
    size = room.f_bavail * room.f_bsize - leave
    with open(path, "wb", buffering=0) as f:
        for _ in range(size // 4096):
            f.write(b"\0" * 4096)


@needs_root
def test_a_full_disk_answers_as_full_and_comes_back_by_itself(world, small_disk):
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http", spool={"max_bytes": "64MiB", "segment_bytes": "1MiB"})},
                        data_dir=small_disk / "data").explain("up", "disk", "space", "room", "full")
    accepted, refused = [], 0
    for n in range(2000):
        reply = agent.post(event(n, size=20000))
        if reply.status == 202:
            accepted.append(n)
        else:
            assert reply.status == 429, reply
            assert 1 <= int(reply.headers["retry-after"]) <= 5
            refused += 1
            if refused > 5:
                break
    assert refused > 5 and len(accepted) > 50
    assert agent.process.alive()
    agent.check_ledgers()
    sink.heal()
    agent.settled(timeout=30)
    until(lambda: agent.post(event(5000)).status == 202, "room again", 20)
    accepted.append(5000)
    agent.settled(timeout=30)
    # An event whose answer was a refusal must not be there; all that were accepted must be.
    assert sorted(sink.numbers()) == sorted(accepted)


@needs_root
def test_min_free_stops_accepting_before_the_disk_is_full(world, small_disk):
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http", spool={"max_bytes": "64MiB", "segment_bytes": "1MiB"})},
                        agent={"min_free": "4MiB"}, data_dir=small_disk / "data")
    agent.explain("up", "disk", "space", "room", "full", "min_free")
    assert agent.post(event(1)).status == 202
    fill(small_disk / "ballast", 2 << 20)
    numbers = itertools.count(1000)  # an id that was accepted before is accepted again, room or not
    until(lambda: agent.post(event(next(numbers))).status == 429, "refused", 20)
    (small_disk / "ballast").unlink()
    until(lambda: agent.post(event(next(numbers))).status == 202, "taken again", 20)
    sink.heal()
    agent.settled()


@needs_root
def test_a_disk_filled_by_others_under_load_loses_nothing_that_was_answered(world, small_disk):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http", spool={"max_bytes": "64MiB", "segment_bytes": "1MiB"})},
                        data_dir=small_disk / "data").explain("up", "disk", "space", "room", "full", "storage")
    accepted = []
    n = 0
    for _ in range(5):
        fill(small_disk / "ballast", 100_000)
        for _ in range(30):
            n += 1
            if agent.post(event(n, size=30000)).status == 202:
                accepted.append(n)
        (small_disk / "ballast").unlink()
        def taken():
            nonlocal n
            n += 1
            if agent.post(event(n)).status == 202:
                accepted.append(n)
                return True
        until(taken, "taken again", 20)
    agent.settled(timeout=30)
    assert set(accepted) <= set(sink.numbers())
    agent.check_ledgers()


@needs_root
def test_a_disk_that_forgets_is_warned_of_or_refused(world, small_disk):
    sink = world.sink()
    spool = {"max_bytes": "4MiB", "segment_bytes": "1MiB"}
    agent = world.agent({"out": sink.output("http", spool=spool)}, data_dir=small_disk / "data").explain("tmpfs", "events over")
    assert "on tmpfs" in agent.process.err()
    assert agent.post(event(1)).status == 202
    agent.settled()
    agent.stop()
    spool["require_local_fs"] = True
    refused = world.agent({"out": sink.output("http", spool=spool)}, data_dir=small_disk / "data", start=False,
                          name="refused").explain("tmpfs", "events over")
    refused.launch()
    assert refused.process.wait() == 78
    assert "require_local_fs" in refused.process.err()


@needs_root
def test_an_agent_that_dies_on_its_full_disk_starts_again_and_again_and_then_delivers(world, small_disk):
    """Each start begins a file. Where there is no room for one, the files of earlier starts must have it."""
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http", spool={"max_bytes": "64MiB", "segment_bytes": "1MiB"})},
                        data_dir=small_disk / "data").explain("up", "disk", "space", "room", "full", "storage", "data", "statistics")
    accepted, n, refused = [], 0, 0
    while refused < 5:
        n += 1
        if agent.post(event(n, size=20000)).status == 202:
            accepted.append(n)
            refused = 0
        else:
            refused += 1
    fill(small_disk / "ballast", 0)
    for _ in range(15):
        agent.kill()
        agent.launch()
        def turns():
            if not agent.process.alive():
                raise Ended(agent.process.err()[-1000:])
            return agent.admin("GET", "/healthz").status == 200 and agent.ledger("up")["accepted"] == len(accepted)
        until(turns, "it is there, and knows what it owes", 20)
    sink.heal()
    agent.settled(timeout=60)
    assert sorted(sink.numbers()) == accepted
    sink.check(unique=len(accepted))
    until(lambda: agent.post(event(100_000)).status == 202, "room again", 20)
