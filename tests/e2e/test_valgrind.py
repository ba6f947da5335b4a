"""The agent's own life under valgrind, which sees reads of uninitialised memory where sanitizers do not, and leaks."""
import gzip
import json
import shutil

import pytest
from harness import PENSTOCK, event, run


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_an_ordinary_life_has_no_memory_errors_and_no_leaks(world):
    if b"__asan_init" in open(PENSTOCK, "rb").read():
        pytest.skip("a sanitizer build does not run under valgrind")
    sink = world.sink(tls=True, args=["--respond", "status=503,times=1", "--respond", "hangup=before,times=1"])
    agent = world.agent({"up": sink.output("http")}, start=False,
                        wrapper=("valgrind", "-q", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite",
                                 "--errors-for-leak-kinds=definite"))
    # valgrind does not know seccomp(2), and says so; the agent then goes on without its filter.
    agent.explain("up", r"system call filter: .*goes on without it", r"^--\d+-- (WARNING: unhandled \S+ syscall: 317|You may be able to"
                        r"|Read the file README_MISSING|Nevertheless we consider|it at http)")
    agent.start(timeout=60)
    with agent.wire(timeout=60) as w:
        for n in range(5):
            w.request("POST", "/events", json.dumps([event(n * 100 + k) for k in range(100)]))
            assert w.reply().status == 202
        body = gzip.compress(json.dumps([event(1000 + k) for k in range(100)]).encode())
        w.request("POST", "/events", body, {"Content-Encoding": "gzip"})
        assert w.reply().status == 202
        w.request("POST", "/events", "{oops")
        assert w.reply().status == 400
    agent.settled(timeout=60)
    sink.check(unique=600)
    agent.status()
    agent.stop(timeout=60)
    agent.start(timeout=60)
    agent.stop(timeout=60)


def test_check_has_no_memory_errors(world):
    if shutil.which("valgrind") is None or b"__asan_init" in open(PENSTOCK, "rb").read():
        pytest.skip("needs valgrind and no sanitizer")
    path = world.dir / "c.yaml"
    for text in ("outputs:\n  a: { type: http, endpoint: 'http://x/', tls: { verify: no } }\n", "outputs: [\n", ""):
        path.write_text(text)
        done = run(["valgrind", "-q", "--error-exitcode=99", "--leak-check=full", PENSTOCK, "check", "-c", str(path)])
        assert done.returncode == 78, done
