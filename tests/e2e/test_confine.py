"""What the running agent may ask of the kernel, and what a core file of it would hold."""
import pathlib

import pytest
from harness import PENSTOCK, event, run


def test_every_thread_is_confined(world):
    if "seccomp: built in" not in run([PENSTOCK, "version"]).stdout or b"__asan_init" in open(PENSTOCK, "rb").read():
        pytest.skip("built without libseccomp, or with a sanitizer")
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")})
    assert agent.post([event(n) for n in range(100)]).status == 202
    agent.settled()  # libuv's pool has begun by now
    threads = list(pathlib.Path(f"/proc/{agent.process.pid}/task").iterdir())
    assert len(threads) > 1
    for thread in threads:
        status = dict(line.split(":\t", 1) for line in (thread / "status").read_text().splitlines() if ":\t" in line)
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1"), thread


def test_a_core_file_would_hold_no_memory(world):
    agent = world.agent({"up": world.sink().output("http")})
    # The kernel's bits of what is dumped; the file is root's once the process is not dumpable.
    path = pathlib.Path(f"/proc/{agent.process.pid}/coredump_filter")
    assert int(path.read_text(), 16) == 0
    assert path.stat().st_uid == 0
