"""System calls that fail, or in which the process dies, at a chosen count: strace injects them into the unchanged binary.

What was acknowledged arrives all the same, the ledger balances, and what cannot be stored is not acknowledged.
strace counts the calls of each thread by itself.
"""
import http.client
import json
import re
import shutil
import subprocess

import pytest
from harness import Wire, event, until

WRITES = "pwrite64,pwritev,pwritev2"


def strace_works():
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not strace_works(), reason="strace cannot trace here")


def tracer(world, calls, fault):
    """-D: the agent stays our child, and a kill reaches it and not the tracer."""
    return ("strace", "-D", "-f", "-qq", "-o", str(world.dir / "trace"), "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}")


def send_until_it_dies(agent, first):
    """The numbers that were acknowledged before the agent died, or after 150 requests."""
    acknowledged = []
    try:
        with Wire(agent.address, timeout=10) as w:
            for n in range(first, first + 150):
                w.request("POST", "/events", json.dumps(event(n, size=n % 3 * 1500)))
                reply = w.reply()
                if reply is None:
                    break
                if reply.status == 202:
                    acknowledged.append(n)
    except (OSError, AssertionError, http.client.HTTPException):
        pass
    return acknowledged


@pytest.mark.parametrize("calls, counts", [
    (WRITES, [1, 2, 3, 5, 8, 13, 40]),
    ("fdatasync", [1, 2, 3, 5, 8, 13, 40]),
    ("fsync", [1, 2]),
    ("fallocate", [1, 2]),
    ("rename,renameat,renameat2", [1]),
    ("writev,sendmsg", [1, 3, 10]),
])
def test_death_in_the_nth_call_loses_nothing_that_was_acknowledged(world, calls, counts):
    sink = world.sink()
    output = sink.output("http", batch={"max_events": 10, "max_wait": "5ms"}, spool={"max_bytes": "16MiB", "segment_bytes": "1MiB"})
    agent = world.agent({"up": output}, start=False).explain("up")
    acknowledged, first = [], 0
    for count in counts:
        agent.wrapper = tracer(world, calls, f"signal=SIGKILL:when={count}")
        agent.launch()
        def listening_or_dead():
            if not agent.process.alive():
                return True
            with Wire(agent.address):
                return True
        until(listening_or_dead, "listening or dead", 20)
        acknowledged += send_until_it_dies(agent, first)
        first += 1000
        agent.kill()
    agent.wrapper = ()
    agent.start()
    agent.settled(timeout=30)
    assert set(acknowledged) <= set(sink.numbers())
    stats = sink.check()
    assert stats["processed"] == stats["unique"]


@pytest.mark.parametrize("calls, fault", [
    ("fdatasync", "error=EIO:when=6"), ("fdatasync", "error=EIO:when=6+7"), ("fdatasync", "error=ENOSPC:when=6..7"),
    (WRITES, "error=EIO:when=6"), (WRITES, "error=ENOSPC:when=6..7"), (WRITES, "error=EDQUOT:when=6..7"),
    (WRITES, "retval=0:when=6"), ("fallocate", "error=EOPNOTSUPP"),
    ("fdatasync", "delay_exit=200000:when=4+3"),
])
def test_a_disk_that_fails_for_a_while_costs_nothing_that_was_acknowledged(world, calls, fault):
    sink = world.sink()
    output = sink.output("http", batch={"max_events": 10, "max_wait": "5ms"}, spool={"max_bytes": "16MiB", "segment_bytes": "1MiB"})
    agent = world.agent({"up": output}, wrapper=tracer(world, calls, fault)).explain("up", "storage", "disk")
    acknowledged, unknown = [], []
    for n in range(60):
        try:
            reply = agent.post(event(n, size=n % 3 * 1500))
        except (OSError, AssertionError):
            break
        (acknowledged if reply.status == 202 else unknown).append(n)
        assert reply.status in (202, 429, 503), reply
    assert agent.process.alive(), agent.process.err()[-1000:]
    assert re.search("INJECTED|DELAYED", (world.dir / "trace").read_text()), "the fault was not injected: the test has shown nothing"
    agent.wrapper = ()
    agent.kill()
    agent.start()
    agent.settled(timeout=30)
    assert set(acknowledged) <= set(sink.numbers())
    agent.check_ledgers()
    assert sink.check()["violations_total"] == 0


def test_storage_that_has_failed_acknowledges_nothing_and_ends_with_74(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")}, wrapper=tracer(world, f"fdatasync,fsync,{WRITES}", "error=EIO:when=12+"))
    agent.explain("up", "storage", "disk", "drain")
    acknowledged = send_until_it_dies(agent, 0) + send_until_it_dies(agent, 1000)
    # What is assigned and in memory is still sent; then the supervisor is told why it ended.
    assert agent.process.wait(30) == 74
    assert "storage failed" in agent.process.err()
    assert 5 < len(acknowledged) < 300
    agent.wrapper = ()
    agent.start()
    agent.settled(timeout=30)
    assert set(acknowledged) <= set(sink.numbers())
    assert sink.check()["violations_total"] == 0


def test_after_a_failed_sync_that_file_is_never_synced_again(world):
    """The kernel marks the pages clean when it reports the failure: a second sync would say yes and mean nothing."""
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")}, wrapper=(
        "strace", "-D", "-f", "-qq", "-y", "-o", str(world.dir / "trace"), "-e", "trace=fdatasync,fsync",
        "-e", "inject=fdatasync:error=EIO:when=6")).explain("up", "storage", "disk")
    send_until_it_dies(agent, 0)
    agent.kill()
    lines = (world.dir / "trace").read_text().splitlines()
    failed = [i for i, line in enumerate(lines) if "EIO" in line]
    assert failed, "the fault was not injected"
    for i in failed:
        name = re.search(r"fdatasync\(\d+<([^>]+)>", lines[i])
        if name:  # else the line is the end of a call that was interrupted by another thread's
            assert not [line for line in lines[i + 1:] if f"<{name.group(1)}>" in line and "resumed" not in line], name.group(1)
