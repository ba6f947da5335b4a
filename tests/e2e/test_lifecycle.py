"""Starting, stopping, and what an operator sees in between."""
import json
import os
import re
import signal
import time

from harness import PENSTOCK, Process, event, free_port, run, until


def test_healthz_readyz_metrics_and_status(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")})
    assert agent.admin("GET", "/healthz").status == 200
    assert agent.admin("GET", "/readyz").status == 200
    assert agent.admin("GET", "/nothing").status == 404
    agent.post([event(n) for n in range(10)])
    agent.settled()
    status = agent.status()
    assert "up" in json.dumps(status["outputs"]) and "http" in json.dumps(status["inputs"])
    assert agent.metric("penstock_events_received_total", input="http") == 10
    assert agent.metric("penstock_bytes_in_total", input="http") > 0
    assert agent.ledger("up") == {"accepted": 10, "pending": 0, "delivered": 10, "dead": 0, "dropped": 0}
    assert agent.metric("penstock_output_state", output="up", state="ok") == 1


def test_every_series_is_there_from_the_start(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")})
    m = agent.metrics()
    names = {n for n, _ in m}
    for name in """penstock_events_received_total penstock_events_rejected_total penstock_events_sampled_total penstock_bytes_in_total
            penstock_events_accepted_total penstock_events_pending penstock_events_delivered_total penstock_events_dead
            penstock_events_dropped_total penstock_events_dead_total penstock_events_repeated_total penstock_spool_bytes
            penstock_spool_oldest_seconds penstock_batches_total penstock_retries_total penstock_request_seconds_count
            penstock_commit_seconds_count penstock_bytes_out_total penstock_output_state penstock_tls_not_after_seconds
            penstock_build_info""".split():
        assert name in names, name
    def values(name, label):
        return {dict(l)[label] for n, l in m if n == name}
    assert values("penstock_events_rejected_total", "reason") == {
        "malformed", "too_large", "truncated", "kernel_dropped", "full", "no_route", "unrenderable", "unauthorized",
        "bad_compression", "unsupported_signal"}
    assert values("penstock_events_dropped_total", "reason") == {"quota", "shed", "expired", "corrupt", "purged"}
    assert {"refused", "too_large", "gave_up", "bad_response", "no_result"} <= values("penstock_events_dead_total", "reason")
    assert values("penstock_output_state", "state") == {"ok", "retrying", "held", "full", "paused", "quota", "failed"}
    assert sum(v for (n, l), v in m.items() if n == "penstock_output_state") == 1
    text = agent.admin("GET", "/metrics").body.decode()
    typed = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    for name in names:
        assert name in typed or re.sub(r"_(bucket|sum|count)$", "", name) in typed, f"no TYPE for {name}"


def test_sigterm_drains_and_exits_0(world):
    sink = world.sink(args=["--respond", "delay=300ms"])
    agent = world.agent({"up": sink.output("http", batch={"max_wait": "30s"})})
    agent.post([event(n) for n in range(25)])
    assert agent.ledger("up")["pending"] == 25
    agent.stop()
    sink.check(unique=25)
    agent.start()
    assert agent.ledger("up") == {"accepted": 25, "pending": 0, "delivered": 25, "dead": 0, "dropped": 0}


def test_the_drain_is_bounded_and_the_rest_is_kept(world):
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http")}, agent={"drain_timeout": "500ms"}).explain("up", "drain")
    agent.post([event(n) for n in range(25)])
    begun = time.monotonic()
    agent.stop()
    assert time.monotonic() - begun < 8
    sink.heal()
    agent.start()
    agent.settled()
    sink.check(unique=25)


def test_while_stopping_new_requests_get_503_and_close(world):
    sink = world.sink(args=["--respond", "delay=1500ms"])
    agent = world.agent({"up": sink.output("http")})
    with agent.wire() as w:
        w.request("POST", "/events", json.dumps(event(1)))
        assert w.reply().status == 202
        # A request that has begun before the stop and ends after it.
        w.say("POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{")
        until(lambda: sink.stats()["requests"] >= 1, "the delivery has begun")
        agent.process.signal(signal.SIGTERM)
        def stopping():
            return "stopping" in agent.process.err()
        until(stopping, "it says that it stops")
        w.say('"type":"t"}')
        reply = w.reply()
        assert reply is not None and reply.status == 503 and reply.headers["connection"] == "close"
    assert agent.process.wait() == 0


def test_events_survive_a_kill(world):
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http")}).explain("up")
    assert agent.post([event(n) for n in range(100)]).status == 202
    agent.kill()
    sink.heal()
    agent.start()
    agent.settled()
    sink.check(unique=100)
    assert agent.ledger("up")["accepted"] == 100


def test_a_second_instance_exits_73_and_names_the_first(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")})
    second = world.agent({"up": sink.output("http")}, name="second", data_dir=agent.data_dir, start=False)
    second.launch()
    assert second.process.wait() == 73
    assert str(agent.process.pid) in second.process.err()
    second.explain(".")
    assert agent.post(event(1)).status == 202


def test_a_port_in_use_exits_73_and_touches_nothing(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")})
    other = world.agent({"up": sink.output("http")}, name="other", start=False)
    other.http_input(listen=f"127.0.0.1:{agent.port}")
    other.launch()
    assert other.process.wait() == 73
    assert str(agent.port) in other.process.err()
    other.explain(".")
    assert not list(other.data_dir.glob("*/*.seg")) if other.data_dir.exists() else True


def test_a_faulty_configuration_exits_78_with_file_line_and_column(world):
    agent = world.agent({"up": {"type": "http", "endpoint": "http://127.0.0.1:1/x"}}, start=False,
                        text="outputs:\n  up:\n    type: http\n    endpoint: http://127.0.0.1:1/x\n    concurency: 4\n")
    agent.launch()
    assert agent.process.wait() == 78
    err = agent.process.err()
    assert re.search(r"agent\.yaml:5:\d+: .*concurency", err), err
    assert "concurrency" in err
    agent.explain(".")


def test_a_missing_configuration_exits_78(world):
    done = run([PENSTOCK, "run", "-c", str(world.dir / "nothing.yaml")])
    assert done.returncode == 78 and "nothing.yaml" in done.stderr


def test_an_unwritable_data_dir_is_refused(world):
    blocked = world.dir / "file"
    blocked.write_text("")
    agent = world.agent({"up": {"type": "http", "endpoint": "http://127.0.0.1:1/x"}}, data_dir=blocked, start=False)
    agent.launch()
    assert agent.process.wait() == 73
    agent.explain(".")


def test_files_are_private(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")})
    agent.post(event(1))
    agent.settled()
    seen = 0
    for directory, names, files in os.walk(agent.data_dir):
        for name in names + files:
            mode = os.stat(os.path.join(directory, name)).st_mode & 0o777
            assert mode == (0o700 if name in names else 0o600), (name, oct(mode))
            seen += 1
    assert seen >= 3


def test_usage_errors_exit_64(world):
    for args in ([], ["nonsense"], ["run"], ["run", "-x"], ["send", "--url"], ["sink"], ["sink", "--listen", "x"]):
        done = run([PENSTOCK, *args])
        assert done.returncode == 64, (args, done)
        assert done.stderr


def test_help_and_version(world):
    for args in (["--help"], ["run", "--help"], ["send", "--help"], ["sink", "--help"], ["version"]):
        done = run([PENSTOCK, *args])
        assert done.returncode == 0 and len(done.stdout) > 20, (args, done)
    assert "libuv" in run([PENSTOCK, "version"]).stdout


def test_flush_waits_until_what_was_pending_is_settled(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http", batch={"max_wait": "1h"})})
    agent.post([event(n) for n in range(5)])
    assert agent.ledger("up")["pending"] == 5
    assert agent.admin("POST", "/flush?wait=10s", timeout=15).status == 200
    assert agent.ledger("up")["delivered"] == 5


def test_sigusr1_flushes(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http", batch={"max_wait": "1h"})})
    agent.post([event(n) for n in range(5)])
    agent.process.signal(signal.SIGUSR1)
    agent.settled()
    sink.check(unique=5)


def test_no_file_descriptors_leak(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http")})
    def count():
        return len(os.listdir(f"/proc/{agent.process.pid}/fd"))
    agent.post(event(0))
    agent.settled()
    before = count()
    for n in range(1, 40):
        with agent.wire() as w:
            w.request("POST", "/events", json.dumps(event(n)))
            w.reply()
    agent.settled()
    until(lambda: count() <= before + 2, "descriptors are given back")
