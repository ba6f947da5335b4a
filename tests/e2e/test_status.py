"""`penstock status`: what an agent is doing, what is wrong first."""
import json
import os
import pty
import select
import signal
import subprocess

from harness import PENSTOCK, event, free_port, run, until


def status(agent, *args):
    return run([PENSTOCK, "status", "--admin", f"http://127.0.0.1:{agent.admin_port}", *args])


def test_a_table_for_people(world):
    sink = world.sink()
    agent = world.agent({"telemetry": sink.output()})
    assert agent.post([event(n) for n in range(1234)]).status == 202
    assert agent.post([{"no": "type"}]).status == 400
    agent.settled()
    done = status(agent)
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert lines[0].startswith("penstock ") and " on agent: running for " in lines[0] and lines[0].endswith("ready")
    heads = next(l for l in lines if l.startswith("OUTPUT"))
    row = next(l for l in lines if l.startswith("telemetry"))
    assert heads.split()[:4] == ["OUTPUT", "TYPE", "STATE", "PENDING"]
    assert row.split()[:4] == ["telemetry", "http", "ok", "0"] and "1,234" in row
    row = next(l for l in lines if l.startswith("http"))
    assert "1,235" in row
    assert "    http: rejected: malformed 1" in lines
    assert "!" not in done.stdout


def test_faults_that_pass_do_not_hide_one_that_stays(world):
    """The log leaves out what goes to and fro; that somebody must act is said all the same."""
    sink = world.sink()
    agent = world.agent({"up": sink.output("http", retry={"initial": "10ms", "max": "10ms"})})
    for n in range(20):
        sink.respond("times=1,status=503")
        assert agent.post(event(n)).status == 202
        agent.settled()
    sink.respond("status=401")
    assert agent.post(event(20)).status == 202
    until(lambda: " error output up: held: " in agent.process.err(), "the hold is told")
    sink.heal()
    agent.settled()


def test_what_is_wrong_comes_first_in_the_upstreams_words(world):
    sink = world.sink()
    agent = world.agent({"good": sink.output(), "bad": sink.output("http", path="/other")}, routes=[{"to": ["bad"]}])
    agent.explain("output bad: ")
    sink.respond("status=503")
    assert agent.post(event(1)).status == 202
    until(lambda: "bad is retrying" in status(agent).stdout, "the output is retrying")
    lines = status(agent).stdout.splitlines()
    assert lines[1].startswith("  ! output bad is retrying: ") and "as told by the rule" in lines[1]
    assert any(l.startswith("    bad: last error: 503 ") for l in lines)
    sink.heal()
    agent.settled()


def test_json_is_what_the_agent_says(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output()})
    done = status(agent, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["outputs"][0]["name"] == "a"


def test_the_address_comes_from_the_configuration(world):
    sink = world.sink()
    path = world.dir / "admin.sock"
    agent = world.agent({"a": sink.output()}, start=False)
    agent.config["admin"] = {"listen": f"unix:{path}"}
    agent.launch()
    until(lambda: "ready: " in agent.process.err(), "the agent is ready")
    agent.ledger_holds = False
    for args in (["-c", str(agent.path)], ["--admin", f"unix:{path}"]):
        done = run([PENSTOCK, "status", *args, "--json"])
        assert done.returncode == 0, done
        assert json.loads(done.stdout)["agent"]["name"] == "agent"
    agent.stop()
    done = run([PENSTOCK, "status", "-c", str(agent.path)])
    assert done.returncode == 69 and str(path) in done.stderr


def test_a_token_is_asked_for_and_found(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output()}, start=False)
    agent.config["admin"]["auth"] = {"token": "sesame"}
    agent.ledger_holds = False
    agent.launch()
    until(lambda: "ready: " in agent.process.err(), "the agent is ready")
    done = status(agent)
    assert done.returncode == 77 and "401" in done.stderr
    assert run([PENSTOCK, "status", "-c", str(agent.path)]).returncode == 0
    assert run([PENSTOCK, "status", "--admin", f"127.0.0.1:{agent.admin_port}"],
               env={**os.environ, "PENSTOCK_ADMIN_TOKEN": "sesame"}).returncode == 0


def test_nobody_there(world):
    done = run([PENSTOCK, "status", "--admin", f"127.0.0.1:{free_port()}"])
    assert done.returncode == 69 and "cannot reach the agent" in done.stderr
    assert run([PENSTOCK, "status", "--admin", "ftp://x"]).returncode == 64
    assert run([PENSTOCK, "status", "surplus"]).returncode == 64


def test_watch_draws_in_place(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output()})
    mine, its = pty.openpty()
    child = subprocess.Popen([PENSTOCK, "status", "--watch", "--admin", f"127.0.0.1:{agent.admin_port}"], stdout=its,
                             stdin=subprocess.DEVNULL)
    os.close(its)
    seen = b""
    try:
        def twice():
            nonlocal seen
            if select.select([mine], [], [], 0.1)[0]:
                seen += os.read(mine, 65536)
            return seen.count(b"OUTPUT") >= 2
        until(twice, "two pages are drawn")
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(10)
        os.close(mine)
    assert seen.count(b"\033[H") >= 2 and seen.count(b"\033[2J") == 1
