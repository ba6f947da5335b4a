"""`penstock send`, `penstock sink`, `penstock check`: the commands around the agent."""
import json
import os
import pty
import re
import signal
import subprocess

import pytest
from harness import PENSTOCK, ROOT, Process, Wire, event, free_port, run, until


@pytest.fixture
def pair(world):
    sink = world.sink()
    return world.agent({"up": sink.output("http")}), sink


def send(agent, *args, **more):
    return run([PENSTOCK, "send", "--url", f"http://127.0.0.1:{agent.port}", *args], **more)


def test_send_from_a_file_and_standard_input(pair, world):
    agent, sink = pair
    path = world.dir / "events.ndjson"
    path.write_text("".join(json.dumps(event(n)) + "\n" for n in range(2500)))
    done = send(agent, str(path))
    assert (done.returncode, done.stdout) == (0, "2500 accepted, 0 refused\n"), done
    assert done.stderr == ""
    done = send(agent, input="".join(json.dumps(event(5000 + n)) + "\n" for n in range(10)))
    assert done.returncode == 0
    agent.settled()
    sink.check(unique=2510)


def test_send_names_file_and_line_of_what_is_refused(pair, world):
    agent, sink = pair
    path = world.dir / "events.ndjson"
    path.write_text('{"type":"a"}\n{oops\n\n{"data":1}\n{"type":"b"}\n')
    done = send(agent, str(path))
    assert done.returncode == 65
    assert done.stdout == "2 accepted, 2 refused\n"
    assert f"{path}:2: " in done.stderr and f"{path}:4: " in done.stderr
    agent.settled()
    assert sink.stats()["unique"] == 2


def test_send_with_a_type(pair):
    agent, sink = pair
    done = send(agent, "--type", "page.viewed", input='{"subject":"u-1"}\n{"path":"/x"}\n"text"\n{"type":"own","data":1}\n')
    assert done.returncode == 0, done
    agent.settled()
    events = [l["event"] for l in sink.received()]
    assert [(e["type"], e.get("subject"), e.get("data")) for e in events] == [
        ("page.viewed", "u-1", None), ("page.viewed", None, {"path": "/x"}), ("page.viewed", None, "text"), ("own", None, 1)]


def test_send_without_an_agent_exits_69(world):
    done = run([PENSTOCK, "send", "--url", f"http://127.0.0.1:{free_port()}"], input='{"type":"t"}\n')
    assert done.returncode == 69 and done.stderr


def test_send_of_a_missing_file_says_so(pair):
    agent, _ = pair
    done = send(agent, "/no/such/file")
    assert done.returncode == 65 and "/no/such/file" in done.stderr


def test_send_survives_a_restart_of_the_agent_and_stores_once(pair, world):
    agent, sink = pair
    child = subprocess.Popen([PENSTOCK, "send", "--url", f"http://127.0.0.1:{agent.port}"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for n in range(50):
            child.stdin.write(json.dumps({"type": "t", "data": {"n": n}}) + "\n")
        child.stdin.flush()
        until(lambda: agent.ledger("up")["accepted"] == 50, "the first are accepted")
        agent.stop()
        for n in range(50, 100):
            child.stdin.write(json.dumps({"type": "t", "data": {"n": n}}) + "\n")
        child.stdin.flush()
        agent.start()
        out, err = child.communicate(timeout=30)
        assert child.returncode == 0, err
        assert out == "100 accepted, 0 refused\n"
    finally:
        child.kill()
        child.wait()
    agent.settled()
    sink.check(unique=100)


def test_send_shows_progress_on_a_terminal_only(pair, world):
    agent, _ = pair
    path = world.dir / "events.ndjson"
    path.write_text("".join('{"type":"t","data":%d}\n' % n for n in range(20000)))
    master, slave = pty.openpty()
    child = subprocess.Popen([PENSTOCK, "send", "--url", f"http://127.0.0.1:{agent.port}", str(path)], stderr=slave,
                             stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    os.close(slave)
    seen = b""
    try:
        while True:
            piece = os.read(master, 4096)
            if not piece:
                break
            seen += piece
    except OSError:
        pass
    os.close(master)
    assert child.wait(30) == 0
    assert b"events" in seen
    agent.settled(timeout=60)


def test_send_over_https(world):
    authority = world.authority()
    cert, key = authority.issue("server", "IP:127.0.0.1,DNS:localhost")
    own_cert, own_key = authority.issue("client", "DNS:client")
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")}, start=False)
    agent.http_input(tls={"cert_file": str(cert), "key_file": str(key)})
    agent.start()
    lines = "".join(json.dumps(event(n)) + "\n" for n in range(2500))
    for host in ("localhost", "127.0.0.1"):
        url = f"https://{host}:{agent.port}"
        done = run([PENSTOCK, "send", "--url", url, "--ca", str(authority.ca)], input=lines)
        assert (done.returncode, done.stdout) == (0, "2500 accepted, 0 refused\n"), done
    agent.explain("TLS|certificate")
    stranger = run([PENSTOCK, "send", "--url", url], input=lines)
    assert stranger.returncode == 69 and "certificate" in stranger.stderr, stranger
    assert run([PENSTOCK, "send", "--url", url, "--ca", "/no/such/file"], input=lines).returncode == 64
    plain = run([PENSTOCK, "send", "--url", f"https://127.0.0.1:{agent.admin_port}", "--ca", str(authority.ca)], input=lines)
    assert plain.returncode == 69, plain
    agent.http_input(tls={"cert_file": str(cert), "key_file": str(key), "client_ca_file": str(authority.ca)})
    agent.write_config()
    assert agent.admin("POST", "/reload").status == 200
    more = json.dumps(event(9000)) + "\n"
    args = [PENSTOCK, "send", "--url", url, "--ca", str(authority.ca), "--retry-for", "1"]
    assert run(args, input=more).returncode == 69
    assert run([*args, "--cert", str(own_cert), "--key", str(own_key)], input=more).returncode == 0
    agent.settled()
    sink.check(unique=2501)


def test_send_through_the_unix_socket(world):
    sink = world.sink()
    path = str(world.dir / "in.sock")
    agent = world.agent({"up": sink.output("http")}, inputs={"app": {"type": "unix", "path": path}})
    lines = "".join(json.dumps(event(n)) + "\n" for n in range(2500))
    done = run([PENSTOCK, "send", "--socket", path], input=lines)
    assert (done.returncode, done.stdout) == (0, "2500 accepted, 0 refused\n"), done
    done = run([PENSTOCK, "send", "--socket", path], input='{"type":"t"}\n{"data":1}\n')
    assert (done.returncode, done.stdout) == (65, "1 accepted, 1 refused\n"), done
    assert "type" in done.stderr
    agent.settled()
    assert sink.check()["unique"] == 2501
    done = run([PENSTOCK, "send", "--socket", str(world.dir / "nobody")], input='{"type":"t"}\n')
    assert done.returncode == 69


def test_send_waits_for_room(world):
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http", spool={"max_bytes": "4MiB", "segment_bytes": "1MiB"})}).explain("up")
    lines = "".join(json.dumps(event(n, size=5000)) + "\n" for n in range(2000))
    path = world.dir / "big.ndjson"
    path.write_text(lines)
    sender = Process(world, "send", [PENSTOCK, "send", "--url", f"http://127.0.0.1:{agent.port}", str(path)])
    until(lambda: agent.metric("penstock_output_state", output="up", state="full") == 1 or
          agent.metric("penstock_events_rejected_total", input="http", reason="full") > 0, "full")
    sink.heal()
    assert sender.wait(60) == 0, sender.err()
    agent.settled(timeout=60)
    sink.check(unique=2000)


# --- check ---------------------------------------------------------------------------------------------------------

def check(world, text):
    path = world.dir / "c.yaml"
    path.write_text(text)
    return run([PENSTOCK, "check", "-c", str(path)]), path


def test_check_of_a_good_file_prints_bounds_and_exits_0(world):
    done, _ = check(world, "agent: { data_dir: /tmp/x }\noutputs:\n  up: { type: http, endpoint: 'http://127.0.0.1:1/' }\n")
    assert done.returncode == 0, done
    assert "MiB" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("text, where, word", [
    ("outputs:\n  a: { type: htp, endpoint: 'http://x/' }\n", "2:14", "http"),
    ("outputs: {}\n", "1:", "output"),
    ("outputs:\n  a: { type: http, endpoint: 'http://x/', timeout: { conect: 5s } }\n", "2:", "connect"),
    ("outputs:\n  a: { type: http, endpoint: 'http://x/', batch: { max_wait: 5 } }\n", "2:", "duration"),
    ("outputs:\n  a: { type: http, endpoint: 'http://x/' }\n  a: { type: http, endpoint: 'http://y/' }\n", "3:3", "a"),
    ("outputs:\n  a: { type: honeycomb }\n", "2:", "api_key"),
    ("outputs:\n\ta: 1\n", "2:", ""),
])
def test_check_names_file_line_and_column(world, text, where, word):
    done, path = check(world, text)
    assert done.returncode == 78, done
    assert f"{path}:{where}" in done.stderr and word in done.stderr, done.stderr


def test_check_looks_into_certificates(world):
    junk = world.dir / "junk.pem"
    junk.write_text("junk")
    files = f"{{ cert_file: {junk}, key_file: {junk} }}"
    output = "outputs: {{ up: {{ type: http, endpoint: 'https://x/'{} }} }}\n"
    done, path = check(world, f"inputs: {{ a: {{ type: http, tls: {files} }} }}\n" + output.format(""))
    assert done.returncode == 78 and f"{path}:1:33: inputs.a.tls: certificate" in done.stderr, done
    done, path = check(world, output.format(f", tls: {{ ca_file: {junk} }}"))
    assert done.returncode == 0 and f"{path}:1:59: warning: outputs.up: no certificate" in done.stdout, done


def test_the_shipped_configurations_are_good(world):
    files = sorted((ROOT / "conf").glob("*.yaml"))
    assert files
    for path in files:
        names = re.findall(r"\$\{env:(\w+)\}", path.read_text())
        done = run([PENSTOCK, "check", "-c", str(path)], env={**os.environ, **{name: str(world.dir) for name in names}})
        # Files that are named must be there, and these need not be on this machine: keys, certificates.
        faults = [line for line in done.stderr.splitlines() if "No such file" not in line and "note:" not in line]
        assert faults == [] and done.returncode in (0, 78), (path, done.stderr)


# --- sink ---------------------------------------------------------------------------------------------------------

def tell(sink, path, body, **headers):
    with Wire(("127.0.0.1", sink.port), tls=sink.client_context()) as w:
        w.request("POST", path, body if isinstance(body, (str, bytes)) else json.dumps(body),
                  {"User-Agent": "test/1", "Content-Type": "application/json", **headers})
        return w.reply()


def test_sink_prints_counts_at_its_end(world):
    sink = world.sink()
    tell(sink, "/x", [{"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}], **{"Idempotency-Key": "a"})
    sink.stop()
    assert "1 requests, 1 events, 1 unique, 0 repeated, 0 violations" in sink.process.out()


def test_sink_ends_by_itself_after_count(world):
    sink = world.sink(args=["--count", "2"])
    e = {"specversion": "1.0", "source": "/s", "type": "t"}
    assert tell(sink, "/x", [{**e, "id": "1"}, {**e, "id": "2"}], **{"Idempotency-Key": "a"}).status == 200
    assert sink.process.wait() == 0


def test_sink_speaks_tls_that_others_verify(world):
    sink = world.sink(tls=True)
    ca = sink.tls_dir / "ca.pem"
    done = run(["openssl", "s_client", "-connect", f"127.0.0.1:{sink.port}", "-CAfile", str(ca), "-verify_return_error",
                "-verify_hostname", "localhost"])
    assert "Verify return code: 0 (ok)" in done.stdout, done
    assert oct(os.stat(sink.tls_dir / "key.pem").st_mode & 0o777) == "0o600"
    before = ca.read_bytes()
    sink.stop()
    sink.start()
    assert ca.read_bytes() == before


def test_sink_notices_other_bytes_under_the_same_id(world):
    sink = world.sink()
    e = {"specversion": "1.0", "source": "/s", "type": "t"}
    tell(sink, "/x", [{**e, "id": "1"}], **{"Idempotency-Key": "a"})
    tell(sink, "/x", [{**e, "id": "2"}], **{"Idempotency-Key": "a"})
    stats = sink.stats()
    assert [v["what"] for v in stats["violations"]] == ["same_id_other_bytes"]
    assert stats["unique"] == 2 and stats["processed"] == 1


@pytest.mark.parametrize("path, headers, body, status, violation", [
    ("/1/batch/web", {}, [{"data": {"a": 1}}], 401, "no_key"),
    ("/1/batch/web", {"X-Honeycomb-Team": "k", "Content-Type": "text/plain"}, [{"data": {"a": 1}}], 415, "content_type"),
    ("/1/batch/a%2Fb", {"X-Honeycomb-Team": "k"}, [{"data": {"a": 1}}], 404, "dataset"),
    ("/1/batch/web", {"X-Honeycomb-Team": "k"}, [{"data": {}}], 200, "event"),
    ("/1/batch/web", {"X-Honeycomb-Team": "k"}, [{"data": {"a": 1}, "time": 5}], 200, "time"),
    ("/1/batch/web", {"X-Honeycomb-Team": "k"}, [{"data": {"a": 65537 * "x"}}], 200, "string"),
    ("/1/batch/web", {"X-Honeycomb-Team": "k", "Content-Encoding": "deflate"}, b"x", 415, "encoding"),
    ("/api/public/ingestion", {}, {"batch": []}, 401, "no_key"),
    ("/api/public/ingestion", {"Authorization": "Basic YTpi", "Content-Encoding": "gzip"}, b"x", 400, "encoding"),
    ("/api/public/ingestion", {"Authorization": "Basic YTpi"},
     {"batch": [{"id": "1", "type": "event-create", "timestamp": "2026-05-04T09:12:33Z", "body": {}}]}, 207, "silently_lost"),
    ("/api/public/ingestion", {"Authorization": "Basic YTpi"},
     {"batch": [{"id": "1", "type": "event-create", "timestamp": "2026-05-04T09:12:33", "body": {"id": "x"}}]}, 207, "event"),
    ("/v2/event-data-import/p/e", {"Authorization": "api-1"}, [{}], 406, "schema"),
    ("/v2/event-data-import/p/e", {"Authorization": "api-1", "X-LaunchDarkly-Event-Schema": "4"}, [{}], 400, "user_agent"),
    ("/v1/events/batch", {"Authorization": "Bearer k"}, {"events": [{"eventName": "x"}]}, 400, "event"),
    ("/v1/events/batch", {"Authorization": "Bearer k"}, {"events": [{"eventName": "x", "customerId": "c", "timestamp":
                                                                      "2026-05-04T09:12:33Z"}]}, 202, "no_key"),
    ("/api/ingestion/track/batch", {"Authorization": "ApiKey k"}, {"events": []}, 308, "no_slash"),
    ("/api/ingestion/track/batch/", {"Authorization": "ApiKey k"}, {"events": [{"user_id": "u"}]}, 202, "skipped"),
])
def test_sink_is_as_strict_as_the_vendor(world, path, headers, body, status, violation):
    sink = world.sink()
    reply = tell(sink, path, body, **headers)
    assert reply.status == status, reply
    assert violation in [v["what"] for v in sink.stats()["violations"]], sink.stats()


def test_sink_answers_for_single_events_as_told(world):
    sink = world.sink(args=["--respond", "event=1:status=429,times=1", "--respond", "results=1,times=1"])
    events = [{"data": {"n": n}} for n in range(3)]
    reply = tell(sink, "/1/batch/web", events, **{"X-Honeycomb-Team": "k"})
    assert [r["status"] for r in reply.json()] == [202, 429, 202]
    assert sink.stats()["unique"] == 2
    reply = tell(sink, "/1/batch/web", events, **{"X-Honeycomb-Team": "k"})
    assert len(reply.json()) == 1


def test_sink_refuses_a_rule_that_it_does_not_know(world):
    done = run([PENSTOCK, "sink", "--listen", "127.0.0.1:0", "--respond", "statis=4"])
    assert done.returncode == 64 and "statis" in done.stderr
    sink = world.sink()
    assert sink.ask("POST", "/_sink/respond", "status=abc").status == 400


def test_sink_on_a_port_in_use_exits_73(world):
    sink = world.sink()
    done = run([PENSTOCK, "sink", "--listen", f"127.0.0.1:{sink.port}"])
    assert done.returncode == 73 and str(sink.port) in done.stderr


# --- quickstart -----------------------------------------------------------------------------------------------------

def test_quickstart_shows_that_each_event_arrived_once(world):
    for port in (4380, 4390, 4400):
        try:
            Wire(("127.0.0.1", port)).close()
            pytest.skip(f"port {port} is in use on this machine")
        except OSError:
            pass
    script = Process(world, "quickstart", [str(ROOT / "packaging" / "quickstart")], env={"PENSTOCK": PENSTOCK, "TMPDIR": str(world.dir)})
    def running():
        assert script.alive(), script.out() + script.err()
        return "Both programs are running" in script.out()
    until(running, "it is running", 40)
    assert "1000 accepted, 0 refused" in script.out()
    assert "the upstream has 1000 events, 1000 different ones" in script.out()
    script.signal(signal.SIGINT)
    assert script.wait() == 0
    assert not list(world.dir.glob("penstock-quickstart.*"))
    for port in (4380, 4390, 4400):
        with pytest.raises(OSError):
            Wire(("127.0.0.1", port))
