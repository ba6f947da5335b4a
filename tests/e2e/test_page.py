"""The admin page: one self-contained text under a strict policy, and the statistics behind it."""
import http.client
import json
import os
import re
import shutil
import subprocess

import pytest
from harness import event, until


def page(agent):
    return agent.admin("GET", "/page.json").json()


def types(p):
    return {t["type"]: t["count"] for t in p["types"]["top"]}


def test_one_text_under_a_strict_policy(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output()})
    reply = agent.admin("GET", "/")
    text = reply.body.decode()
    assert reply.status == 200 and reply.headers["content-type"] == "text/html; charset=utf-8"
    assert len(reply.body) < 100 * 1024
    policy = dict(p.strip().split(" ", 1) for p in reply.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    assert "unsafe" not in reply.headers["content-security-policy"]
    nonce = re.fullmatch(r"'nonce-([0-9a-f]{32})'", policy["script-src"])[1]
    assert policy["style-src"] == f"'nonce-{nonce}'"
    assert re.findall(r"<(?:script|style)([^>]*)>", text) == [f' nonce="{nonce}"'] * 2
    assert "@NONCE@" not in text
    again = agent.admin("GET", "/")
    assert nonce not in again.headers["content-security-policy"], "a nonce is used once"
    addresses = set(re.findall(r"https?://[^\s\"']+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}, "only the name of the SVG namespace"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\bsrc=|\bhref=|url\(|@import|\son\w+=\"", text)


def test_what_was_sent_is_counted(world):
    sink = world.sink()
    agent = world.agent({"a": sink.output(), "b": sink.output()}, routes=[{"to": ["a", "b"]}])
    events = [event(n, type_="order.paid", subject=f"user-{n % 10}") for n in range(60)]
    events += [event(100 + n, type_="order.sent <b>&\"", subject=f"user-{n % 20}") for n in range(30)]
    events += [event(200 + n, type_="no.subject") for n in range(7)]
    assert agent.post(events).status == 202
    assert agent.post(events[:5]).status == 202, "repeats are accepted and counted no more"
    assert agent.post([{"no": "type"}]).status == 400
    p = page(agent)
    assert types(p) == {"order.paid": 60, "order.sent <b>&\"": 30, "no.subject": 7}
    assert p["total"] == 97
    assert len(p["minutes"]) == 1440 and sum(p["minutes"]) == 97 and sum(p["minutes"][-3:]) == 97
    assert len(p["hours"]) == 168 and sum(p["hours"]) == 97
    assert p["subjects"] == {"day": 20, "week": 20}
    agent.settled()


def test_a_restart_keeps_the_counts(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output()})
    assert agent.post([event(n, type_="kept", subject=f"s-{n}") for n in range(5)]).status == 202
    agent.settled()
    agent.stop()
    assert os.stat(agent.data_dir / ".tally").st_mode & 0o777 == 0o600
    agent.start()
    assert agent.post(event(10, type_="kept", subject="s-10")).status == 202
    p = page(agent)
    assert types(p) == {"kept": 6} and p["subjects"]["day"] == 6 and sum(p["minutes"]) == 6
    agent.settled()


def test_a_damaged_file_is_reported_and_forgotten(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output()})
    assert agent.post(event(1)).status == 202
    agent.settled()
    agent.stop()
    path = agent.data_dir / ".tally"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    agent.explain(r"\.tally: .*checksum.*begin anew")
    agent.start()
    assert "begin anew" in agent.process.err()
    assert page(agent)["total"] == 0
    assert agent.post(event(2)).status == 202
    assert page(agent)["total"] == 1
    agent.settled()


def test_the_page_needs_no_token_but_its_numbers_do(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output()}, start=False)
    agent.config["admin"]["auth"] = {"token": "sesame"}
    agent.ledger_holds = False

    def ask(path, headers):
        connection = http.client.HTTPConnection("127.0.0.1", agent.admin_port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
    agent.launch()
    until(lambda: "ready: " in agent.process.err(), "the agent is ready")
    status, body = ask("/", {})
    assert status == 200 and b"sesame" not in body and b"agent-data" not in body
    for path in ("/page.json", "/status", "/metrics", "/healthz"):
        assert ask(path, {})[0] == 401, path
        assert ask(path, {"Authorization": "Bearer wrong!"})[0] == 401, path
        assert ask(path, {"Authorization": "Bearer sesame"})[0] == 200, path
    assert json.loads(ask("/page.json", {"Authorization": "Bearer sesame"})[1])["total"] == 0
    agent.stop()


BROWSER = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)


def browse(world, agent, *flags):
    """The page as a browser has it once its script ran, and what its console complained of."""
    done = subprocess.run([BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={world.dir}/browser",
                           "--enable-logging=stderr", "--virtual-time-budget=4000", *flags,
                           f"http://127.0.0.1:{agent.admin_port}/"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, [l for l in done.stderr.splitlines() if ":CONSOLE" in l]


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_a_browser_shows_it(world):
    sink = world.sink()
    hostile = "<img src=x onerror=alert(1)>"
    agent = world.agent({"up": sink.output(), "down": {"type": "http", "endpoint": "http://127.0.0.1:1/x"}},
                        routes=[{"to": ["up", "down"]}])
    agent.explain("output down")
    agent.post([event(n, type_=f"browsed.{n % 3}") for n in range(300)] + [event(999, type_=hostile)])
    agent.settled("up")
    until(lambda: agent.status()["problems"], "the other output has a problem")
    dom, complaints = browse(world, agent, "--dump-dom", "--window-size=1200,1400")
    assert complaints == [], complaints
    for text in ("browsed.2", "301", "Needs attention", "output down is retrying", "127.0.0.1:%d" % agent.port):
        assert text in dom, text
    assert "<img" not in dom and "&lt;img src=x" in dom, "what a sender says stays text"
    for name, flags in (("dark", ["--blink-settings=preferredColorScheme=0", "--window-size=1200,1400"]), ("phone", ["--window-size=390,1800"])):
        _, complaints = browse(world, agent, f"--screenshot={world.dir}/{name}.png", *flags)
        assert complaints == [] and (world.dir / f"{name}.png").stat().st_size > 10_000
