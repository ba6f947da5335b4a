"""What the program is started with and did not choose: descriptors, limits, signals that come early, a read-only disk."""
import errno
import itertools
import os
import signal
import socket
import subprocess
import sys

import pytest
from harness import PENSTOCK, Process, Wire, event, needs_root, run, until


def shell(*lines):
    """A wrapper that says these lines before it becomes the program."""
    return ["sh", "-c", "; ".join([*lines, 'exec "$@"']), "sh"]


def test_without_standard_descriptors_nothing_else_gets_their_numbers(world):
    agent = world.agent({"up": world.sink().output()}, wrapper=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    assert agent.post([event(1)]).status == 202
    assert agent.admin("POST", "/reload").status == 200  # diagnostics are written
    for fd in (0, 1, 2):
        assert os.readlink(f"/proc/{agent.process.pid}/fd/{fd}") == "/"
    agent.stop()


def test_offline_commands_without_standard_output_leave_the_spool_alone(world):
    agent = world.agent({"up": world.sink().output()})
    assert agent.post([event(1)]).status == 202
    agent.settled()
    agent.stop()
    for command in (["dead", "list", "up", "-c", str(agent.path)], ["spool", "verify", str(agent.data_dir)]):
        done = run([*shell("exec >&-"), PENSTOCK, *command])
        assert done.returncode == 74 and "standard output" in done.stderr, done
    assert run([PENSTOCK, "spool", "verify", str(agent.data_dir)]).returncode == 0


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["tap", "--limit", "1"]])
def test_what_cannot_be_printed_exits_74(world, command):
    agent = world.agent({"up": world.sink().output()})
    numbers = itertools.count()
    with open("/dev/full", "wb") as full, \
         subprocess.Popen([PENSTOCK, *command, "--admin", f"http://127.0.0.1:{agent.admin_port}"],
                          stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE) as child:
        def ended():
            agent.post([event(next(numbers))])  # something to tap
            return child.poll() is not None
        try:
            until(ended, "the command ends", 30)
            assert child.returncode == 74 and b"standard output" in child.stderr.read()
        finally:
            child.kill()


def test_requests_that_come_before_the_configuration_is_read_wait(world):
    """A configuration through a pipe holds the start just there."""
    agent = world.agent({"up": world.sink().output()}, start=False)
    agent.write_config()
    text = agent.path.read_bytes()
    agent.path.unlink()
    os.mkfifo(agent.path)
    process = agent.process = Process(world, "agent", [PENSTOCK, "run", "-c", str(agent.path)])
    def opened():
        try:
            return os.open(agent.path, os.O_WRONLY | os.O_NONBLOCK)  # it reads
        except OSError as e:
            assert e.errno == errno.ENXIO and process.alive(), process.child.returncode
            return None
    pipe = until(opened, "the configuration is being read")
    process.signal(signal.SIGHUP)
    process.signal(signal.SIGUSR1)
    os.write(pipe, text)
    agent.path.unlink()
    agent.path.write_bytes(text)  # for the reload that was asked for
    os.close(pipe)
    until(lambda: agent.admin("GET", "/readyz").status == 200, "the agent is ready", 15)
    until(lambda: "reloaded: " in process.err(), "the reload that was asked for")
    agent.stop()


def test_too_few_descriptors_are_told(world):
    agent = world.agent({"up": {"type": "http", "endpoint": "http://127.0.0.1:1/x"}}, start=False)
    agent.write_config()
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # looking for leaks takes descriptors, too
    for descriptors in range(6, 15):
        done = run([*shell(f"ulimit -n {descriptors}"), PENSTOCK, "run", "-c", str(agent.path)], env=env)
        assert done.returncode in (73, 74) and ("open files" in done.stderr or "RLIMIT_NOFILE" in done.stderr), (descriptors, done)


def test_all_descriptors_that_there_may_be_are_taken(world):
    agent = world.agent({"up": world.sink().output()}, wrapper=["prlimit", "--nofile=64:2048"])
    with open(f"/proc/{agent.process.pid}/limits") as limits:
        (line,) = (line for line in limits if line.startswith("Max open files"))
    assert line.split()[3:5] == ["2048", "2048"]
    agent.stop()


def test_sockets_that_were_promised_and_are_not_there_are_nobodys(world):
    agent = world.agent({"up": world.sink().output()}, env={"LISTEN_FDS": "60"}, wrapper=["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"])
    assert agent.post([event(1)]).status == 202
    agent.settled()
    agent.stop()


def inherited(world, name, inputs, **more):
    """An agent that is given a socket on all addresses under this name, and the socket."""
    given = socket.socket()
    given.bind(("0.0.0.0", 0))
    given.listen()
    code = ("import os, sys; os.dup2(int(sys.argv[1]), 3); "
            "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES=sys.argv[2], LISTEN_PID=str(os.getpid())); "
            "os.execv(sys.argv[3], sys.argv[3:])")
    agent = world.agent({"up": world.sink().output()}, inputs=inputs, start=False, **more)
    agent.write_config()
    child = subprocess.Popen([sys.executable, "-c", code, str(given.fileno()), name, PENSTOCK, "run", "-c", str(agent.path)],
                             pass_fds=[given.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return agent, child, given


@pytest.mark.parametrize("name, inputs", [("http", {"http": {"type": "http", "listen": "127.0.0.1:0"}}),
                                          ("lines", {"lines": {"type": "unix", "path": "/nonesuch/s"}}),
                                          ("admin", None)])
def test_an_inherited_socket_beyond_loopback_needs_a_token_too(world, name, inputs):
    _, child, given = inherited(world, name, inputs)
    with given, child:
        err = child.communicate(timeout=60)[1]
        assert child.returncode == 78 and f"0.0.0.0:{given.getsockname()[1]}: beyond loopback" in err, err


@pytest.mark.parametrize("allowed", [{"auth": {"token": "t"}}, {"i_know_this_is_unsafe": True}])
def test_an_inherited_socket_beyond_loopback_with_a_token_serves(world, allowed):
    agent, child, given = inherited(world, "http", {"http": {"type": "http", "listen": "127.0.0.1:0", **allowed}})
    with given, child:
        try:
            with Wire(("127.0.0.1", given.getsockname()[1])) as wire:
                wire.request("POST", "/events", b'{"type":"a"}', {"Authorization": "Bearer t"})
                assert wire.reply().status == 202
            (http,) = agent.status()["inputs"]
            assert http["listen"] == f"0.0.0.0:{given.getsockname()[1]}", "where it listens, whatever the configuration says"
        finally:
            child.terminate()
            child.communicate(timeout=60)
    assert child.returncode == 0


@needs_root
def test_a_spool_on_a_read_only_disk_can_be_read(world):
    agent = world.agent({"up": {"type": "http", "endpoint": "http://127.0.0.1:1/x"}}, agent={"drain_timeout": "0s"})
    agent.explain("retrying", "drain_timeout is over")
    assert agent.post([event(1), event(2)]).status == 202
    agent.stop()
    d = str(agent.data_dir)
    read_only = ["unshare", "-m", *shell(f"mount --bind {d} {d}", f"mount -o remount,ro,bind {d}")]
    done = run([*read_only, PENSTOCK, "spool", "verify", d])
    assert done.returncode == 0 and "pending 2" in done.stdout, done
    assert len(run([*read_only, PENSTOCK, "spool", "dump", d]).stdout.splitlines()) == 2
    done = run([*read_only, PENSTOCK, "run", "-c", str(agent.path)])
    assert done.returncode == 73 and "Read-only file system" in done.stderr, done
