"""Being operated: who may command, what is said, what is never said."""
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess

import pytest
from harness import PENSTOCK, event, free_port, run, until


def ask(agent, method, path, headers):
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", agent.admin_port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


def test_another_method_is_told_which(world):
    agent = world.agent({"up": world.sink().output("http")})
    for method, path, allow in (("POST", "/healthz", "GET, HEAD"), ("GET", "/flush", "POST"), ("DELETE", "/status", "GET, HEAD"),
                                ("PUT", "/outputs/up/pause", "GET, HEAD, POST"), ("GET", "/reload", "POST"),
                                ("GET", "/outputs/up/pause", "POST"), ("HEAD", "/outputs/up/resume", "POST")):
        status, headers, _ = ask(agent, method, path, {})
        assert (status, headers["allow"]) == (405, allow), path
    assert ask(agent, "GET", "/nonesuch", {})[0] == 404
    assert "no output has this name" in ask(agent, "POST", "/outputs/nonesuch/pause", {})[2]
    assert ask(agent, "GET", "/tap?limit=0", {})[0] == 400


def test_a_page_from_elsewhere_commands_nothing(world):
    agent = world.agent({"up": world.sink().output("http")})
    for origin in ("http://evil.example", "null", "https://127.0.0.1:1"):
        assert ask(agent, "POST", "/outputs/up/pause", {"Origin": origin})[0] == 403
        assert ask(agent, "POST", "/reload", {"Origin": origin})[0] == 403
    assert agent.status()["outputs"][0]["state"] == "ok"
    own = {"Origin": f"http://127.0.0.1:{agent.admin_port}"}
    assert ask(agent, "POST", "/outputs/up/pause", own)[0] == 200
    assert agent.status()["outputs"][0]["state"] == "paused"
    assert ask(agent, "POST", "/outputs/up/resume", {})[0] == 200


def test_a_name_that_somebody_leads_here_opens_nothing(world):
    """DNS rebinding: for the browser, the page and we are one server."""
    agent = world.agent({"up": world.sink().output("http")})
    port = agent.admin_port
    for host in (f"rebound.example:{port}", "rebound.example", f"127.0.0.1.example:{port}"):
        for method, path in (("POST", "/outputs/up/pause"), ("GET", "/status"), ("GET", "/outputs/up/dead")):
            status, _, body = ask(agent, method, path, {"Host": host, "Origin": f"http://{host}"})
            assert status == 403 and "foreign_host" in body, (host, path)
    for host in (f"localhost:{port}", "localhost", f"127.0.0.1:{port}", f"[::1]:{port}", f"web-1:{port}"):
        assert ask(agent, "GET", "/status", {"Host": host})[0] == 200, host
    agent.config["admin"]["auth"] = {"token": "t"}  # which no browser sends by itself
    agent.write_config()
    assert agent.admin("POST", "/reload").status == 200
    assert ask(agent, "GET", "/status", {"Host": "web-1.example", "Authorization": "Bearer t"})[0] == 200
    assert ask(agent, "GET", "/status", {"Host": "web-1.example"})[0] == 401
    del agent.config["admin"]["auth"]
    agent.write_config()
    assert ask(agent, "POST", "/reload", {"Authorization": "Bearer t"})[0] == 200


def test_a_changed_admin_token_takes_effect_by_itself(world):
    token = world.dir / "token"
    token.write_text("first-token\n")
    agent = world.agent({"up": world.sink().output("http")}, admin={"auth": {"token": "${file:%s}" % token}}, start=False)
    agent.launch()
    def status(of):
        return ask(agent, "GET", "/status", {"Authorization": f"Bearer {of}"})[0]
    until(lambda: status("first-token") == 200, "the agent answers")
    assert status("wrong") == 401 and ask(agent, "GET", "/metrics", {})[0] == 401
    token.write_text("second-token\n")
    until(lambda: status("second-token") == 200, "the new token is asked for", timeout=30)
    assert status("first-token") == 401
    agent.explain("secret")
    token.unlink()
    until(lambda: "cannot read a secret again" in agent.process.err(), "the missing file is told", timeout=30)
    assert status("second-token") == 200
    agent.ledger_holds = False  # its metrics ask for the token


def test_no_secret_is_ever_shown(world):
    marks = {name: f"MARK{name}9f3a" for name in ("ENV", "PATHPART", "HEADER", "PROXY")}
    sink = world.sink()
    keyfile = world.dir / "key"
    keyfile.write_text("MARKFILE9f3a\n")
    held = sink.output("honeycomb")
    held["credentials"] = {"api_key": "${file:%s}" % keyfile}
    http = sink.output("http")
    http["endpoint"] = http["endpoint"].rstrip("/") + "/${env:PATHPART}"
    http["headers"] = {"X-Secret": "${env:HEADER}"}
    http["credentials"] = {"bearer": "${env:ENV}"}
    proxied = {"type": "http", "endpoint": "http://127.0.0.1:1/x", "proxy": f"http://user:${{env:PROXY}}@127.0.0.1:{free_port()}"}
    agent = world.agent({"held": held, "web": http, "proxied": proxied}, env=marks, agent={"log": {"level": "debug"}, "drain_timeout": "1s"},
                        routes=[{"to": ["held", "web", "proxied"]}])
    agent.explain("output ", "drain_timeout is over")
    assert agent.post(event(1, dataset="d")).status == 202
    agent.settled("web")
    until(lambda: agent.status()["outputs"][2]["state"] == "retrying", "the proxy is not there")
    agent.admin("POST", "/reload")
    shown = [agent.admin("GET", p).body.decode() for p in ("/status", "/metrics", "/page.json", "/", "/readyz")]
    shown.append(json.dumps(agent.admin("GET", "/outputs/held/dead").body.decode()))
    done = run([PENSTOCK, "status", "--admin", f"127.0.0.1:{agent.admin_port}"])
    shown += [done.stdout, done.stderr]
    done = run([PENSTOCK, "check", "-c", str(agent.path)], env={**os.environ, **marks})
    assert done.returncode == 0
    shown += [done.stdout, done.stderr]
    for faulty in ({"tls": {"ca_file": "/nonesuch/${env:ENV}"}}, {"concurrency": "${env:ENV}"}, {"endpoint": "http://${env:ENV} x/"}):
        agent.config["outputs"]["web"] = {**http, **faulty}
        agent.write_config()
        answer = agent.admin("POST", "/reload")
        assert answer.status == 422
        shown.append(answer.body.decode())
    agent.explain("reload")
    agent.admin("POST", "/outputs/proxied/pause")
    agent.stop(timeout=40)
    shown += [agent.process.err(), agent.process.out()]
    for path in agent.data_dir.rglob("*"):
        if path.is_file():
            shown.append(path.read_bytes().decode(errors="replace"))
    for text in shown:
        for mark in [*marks.values(), "MARKFILE9f3a"]:
            assert mark not in text, (mark, text[max(0, text.find(mark) - 200):][:400])
    assert any("${env:PATHPART}" in text for text in shown), "an endpoint is shown as it is written"


def test_an_orphan_is_listed_with_what_is_in_it_and_what_to_do(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output(), "b": {"type": "http", "endpoint": "http://127.0.0.1:1/x"}}, routes=[{"to": ["a", "b"]}])
    agent.explain("output b", "orphaned: ")
    agent.post([event(1), event(2), event(3)])
    agent.settled("a")
    del agent.config["outputs"]["b"]
    agent.config["routes"] = [{"to": ["a"]}]
    agent.write_config()
    assert agent.admin("POST", "/reload").status == 200
    orphan = until(lambda: agent.status()["orphaned"], "b is orphaned")[0]
    assert (orphan["name"], orphan["pending"], orphan["dead"]) == ("b", 3, 0)
    assert orphan["path"] == str(agent.data_dir / "b")
    shown = run([PENSTOCK, "status", "--admin", f"127.0.0.1:{agent.admin_port}"]).stdout
    line = next(l for l in shown.splitlines() if "orphaned" in l)
    assert "3 pending events" in line and f"penstock spool dump {agent.data_dir}/b" in line and "remove the directory" in line
    assert "3 pending events" in agent.process.err()


def test_status_says_since_when(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")})
    first = agent.status()["inputs"][0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", first["since"]) and first["last_received"] is None
    agent.post(event(1))
    assert until(lambda: agent.status()["inputs"][0]["last_received"], "something was received")
    agent.http_input(max_connections=9)
    agent.write_config()
    assert agent.admin("POST", "/reload").status == 200
    after = agent.status()["inputs"][0]
    assert after["since"] == first["since"] and after["received"] == 1, "a reload that changes an input keeps its counts"


def test_a_held_output_is_an_error_line(world):
    sink = world.sink(args=["--respond", "status=401"])
    agent = world.agent({"up": sink.output("http")}, agent={"log": {"level": "error"}})
    agent.post(event(1))
    until(lambda: re.search(r"Z error output up: held: ", agent.process.err()), "it is said loudly")
    problems = agent.status()["problems"]
    assert any(p.startswith("output up is held: ") for p in problems), problems


def launch_with_stderr(agent, stderr, env):
    agent.write_config()
    return subprocess.Popen([PENSTOCK, "run", "-c", str(agent.path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=stderr, env={**os.environ, **env})


@pytest.mark.parametrize("form", ["text", "json"])
def test_journald_is_told_priorities(world, form):
    agent = world.agent({"up": world.sink().output("http")}, agent={"log": {"format": form}}, start=False)
    journal, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    st = os.fstat(ours.fileno())
    child = launch_with_stderr(agent, ours.fileno(), {"JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}"})
    ours.close()
    until(lambda: agent.admin("GET", "/readyz").status == 200, "ready")
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 0
    text = b""
    while piece := journal.recv(65536):
        text += piece
    lines = text.decode().splitlines()
    assert len(lines) > 3
    for line in lines:
        assert re.match(r"<[3467]>", line), line
        if form == "json":
            assert set(json.loads(line[3:])) == {"time", "level", "subject", "message"}
    agent.process = None
    world.agents.remove(agent)


def test_elsewhere_no_priorities(world):
    agent = world.agent({"up": world.sink().output("http")}, agent={"log": {"format": "json"}}, env={"JOURNAL_STREAM": "1:2"})
    agent.explain('^{.*"level":"info"')
    lines = agent.process.err().splitlines()
    assert lines and all(set(json.loads(l)) == {"time", "level", "subject", "message"} for l in lines)
    assert {json.loads(l)["level"] for l in lines} <= {"info", "debug"}


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to be somebody else")
def test_what_is_not_permitted_exits_77(world):
    nobody = pwd.getpwnam("nobody")
    os.chmod(world.dir, 0o755)
    closed = world.dir / "closed"
    closed.mkdir(mode=0o700)
    config = {"agent": {"data_dir": str(closed / "data")}, "admin": {"listen": False},
              "inputs": {"h": {"type": "http", "listen": "127.0.0.1:0"}}, "outputs": {"up": {"type": "http", "endpoint": "http://127.0.0.1:1/x"}}}
    path = world.dir / "p.yaml"
    program = shutil.copy(PENSTOCK, world.dir / "penstock")  # whose own folder may be closed to others
    def as_nobody(**change):
        path.write_text(json.dumps({**config, **change}))
        os.chmod(path, 0o644)
        return run([program, "run", "-c", str(path)], user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
    done = as_nobody()
    assert done.returncode == 77 and "Permission denied" in done.stderr, done
    mine = world.dir / "mine"
    mine.mkdir()
    os.chown(mine, nobody.pw_uid, nobody.pw_gid)
    done = as_nobody(agent={"data_dir": str(mine)}, inputs={"s": {"type": "unix", "path": str(closed / "s.sock")}})
    assert done.returncode == 77 and "closed/s.sock" in done.stderr, done
    os.chmod(path, 0o600)
    done = run([program, "check", "-c", str(path)], user=nobody.pw_uid)
    assert done.returncode == 78 and "Permission denied" in done.stderr, done


def test_the_loudest_senders_are_named(world):
    sink = world.sink()
    path = str(world.dir / "in.sock")
    agent = world.agent({"up": sink.output("http")}, start=False)
    agent.config["inputs"]["app"] = {"type": "unix", "path": path}
    agent.start()
    quiet, loud = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    web = [agent.wire(), agent.wire()]
    for s in (quiet, loud):
        s.settimeout(20)
        s.connect(path)
    def say(s, count):
        s.sendall(b"".join(json.dumps(event(n)).encode() + b"\n" for n in range(count)) + b'{"penstock":"ack"}\n')
        assert json.loads(s.recv(4096))["accepted"] == count
    say(quiet, 1)
    say(loud, 500)
    for n, w in enumerate(web):
        for _ in range(n * 5 + 1):
            w.request("POST", "/events", json.dumps(event(n)), {"Content-Type": "application/json"})
            assert w.reply().status == 202
    inputs = {i["name"]: i["loudest"] for i in agent.status()["inputs"]}
    me = f"pid {os.getpid()} of uid {os.getuid()}"
    assert [s["who"] for s in inputs["app"]] == [me, me]
    assert inputs["app"][0]["bytes"] > 100 * inputs["app"][1]["bytes"] > 0
    assert [s["bytes"] for s in inputs["http"]] == sorted((s["bytes"] for s in inputs["http"]), reverse=True)
    port = web[1].sock.getsockname()[1]
    assert inputs["http"][0]["who"] == f"127.0.0.1:{port}"
    shown = run([PENSTOCK, "status", "--admin", f"127.0.0.1:{agent.admin_port}"]).stdout
    assert f"app: loudest senders: {me}, " in shown and f"http: loudest senders: 127.0.0.1:{port}, " in shown
    for s in (quiet, loud, *web):
        s.close()


def test_the_loudest_senders_of_datagrams_are_named(world):
    agent = world.agent({"up": world.sink().output("http")}, start=False)
    path, port = str(world.dir / "in.dgram"), free_port()
    agent.config["inputs"].update({"d": {"type": "unix_dgram", "path": path}, "u": {"type": "udp", "listen": f"127.0.0.1:{port}"}})
    agent.start()
    line = json.dumps(event(1)).encode()
    quiet, loud = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for s, count in ((quiet, 1), (loud, 5)):
        s.connect(("127.0.0.1", port))
        for _ in range(count):
            s.send(line)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect(path)
        s.send(line)
        # Who passes descriptors along keeps them: they would pile up here.
        before = len(os.listdir(f"/proc/{agent.process.pid}/fd"))
        for _ in range(20):
            socket.send_fds(s, [line], [0, 1, 2])
    def received():
        return {i["name"]: i["received"] for i in agent.status()["inputs"]}
    until(lambda: received()["u"] == 6 and received()["d"] == 21, "all have come")
    assert len(os.listdir(f"/proc/{agent.process.pid}/fd")) < before + 10
    inputs = {i["name"]: i["loudest"] for i in agent.status()["inputs"]}
    assert inputs["d"] == [{"who": f"pid {os.getpid()} of uid {os.getuid()}", "bytes": 21 * len(line)}]
    names = [f"127.0.0.1:{s.getsockname()[1]}" for s in (loud, quiet)]
    assert inputs["u"] == [{"who": names[0], "bytes": 5 * len(line)}, {"who": names[1], "bytes": len(line)}]
    assert f"u: loudest senders: {names[0]}, " in run([PENSTOCK, "status", "--admin", f"127.0.0.1:{agent.admin_port}"]).stdout
    quiet.close()
    loud.close()


@pytest.fixture
def manager(world):
    """A service manager's ear."""
    path = str(world.dir / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(20)
        yield s


def hear_until(manager, beginning):
    heard = []
    while not heard or not heard[-1].startswith(beginning):
        heard.append(manager.recv(4096).decode())
    return heard


def test_the_watchdog_is_fed_from_the_loop(world, manager):
    agent = world.agent({"up": world.sink().output("http")}, env={"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"})
    hear_until(manager, "READY=1\nSTATUS=ready")
    for _ in range(5):
        assert manager.recv(4096) == b"WATCHDOG=1"
    agent.process.signal(signal.SIGSTOP)
    try:
        manager.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while True:
                manager.recv(4096)
    finally:
        agent.process.signal(signal.SIGCONT)
    manager.settimeout(20)
    assert manager.recv(4096) == b"WATCHDOG=1"
    agent.stop()
    assert "STOPPING=1\nSTATUS=" in hear_until(manager, "STOPPING=1")[-1]


def test_the_manager_is_told_what_is_going_on(world, manager):
    sink = world.sink(args=["--respond", "status=401,body=no such key"])
    agent = world.agent({"up": sink.output("http")}, env={"NOTIFY_SOCKET": manager.getsockname()})
    hear_until(manager, "READY=1\nSTATUS=ready: ")
    agent.explain("output up: held")
    assert agent.post([event(1), event(2)]).status == 202
    until(lambda: agent.status()["outputs"][0]["state"] == "held", "it is held")
    heard = hear_until(manager, "STATUS=0 events/s in, 2 pending; output up is held: 401 ")
    assert len(heard) == len(set(heard)), "what is the same is not said again"
    assert agent.admin("POST", "/reload").status == 200
    assert hear_until(manager, "READY=1\nSTATUS=reloaded")[0].startswith("RELOADING=1\nMONOTONIC_USEC=")
    hear_until(manager, heard[-1][:50])
    agent.process.signal(signal.SIGTERM)
    heard = hear_until(manager, "EXTEND_TIMEOUT_USEC=")
    assert any(h.startswith("STOPPING=1") for h in heard) and heard[-2].startswith("STATUS=stopping: 2 pending; output up is held"), heard
    agent.stop()  # the second signal: at once


def test_somebody_elses_watchdog_is_not_fed(world, manager):
    agent = world.agent({"up": world.sink().output("http")}, start=False,
                        env={"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"})
    agent.start()
    agent.stop()
    heard = hear_until(manager, "STOPPING=1")
    assert not any("WATCHDOG" in h for h in heard) and heard[0].startswith("READY=1\n"), heard


def test_spool_commands_on_what_is_no_spool(world):
    for verb in ("verify", "dump"):
        done = run([PENSTOCK, "spool", verb, str(world.dir)])
        assert done.returncode == 64 and str(world.dir) in done.stderr and done.stdout == "", done
        done = run([PENSTOCK, "spool", verb, str(world.dir / "nonesuch")])
        assert done.returncode == 64 and str(world.dir / "nonesuch") in done.stderr, done


def test_a_stop_does_not_wait_for_a_paused_output(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")}, agent={"drain_timeout": "60s"})
    assert agent.admin("POST", "/outputs/up/pause").status == 200
    assert agent.post(event(1)).status == 202
    agent.stop(timeout=20)
    assert "drain_timeout is over" not in agent.process.err()
    agent.start()
    agent.settled()
    sink.check(unique=1)
