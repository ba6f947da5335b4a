"""From the spool to the upstream: TLS, retries, and answers that do not come as they should."""
import os
import socket
import time

import pytest
from harness import CREDENTIALS, ROOT, event, run, until


def send(agent, count, start=0):
    assert agent.post([event(start + n) for n in range(count)]).json() == {"accepted": count}


# --- TLS -------------------------------------------------------------------------------------------------------

def test_tls_with_ca_file(world):
    sink = world.sink(tls=True)
    agent = world.agent({"up": sink.output("http")})
    send(agent, 100)
    agent.settled()
    stats = sink.check(unique=100)
    assert stats["handshakes"] >= 1
    assert agent.metric("penstock_tls_not_after_seconds", output="up") > 0


def test_tls_to_an_ip_address_is_verified_by_its_address(world):
    sink = world.sink(tls=True)
    agent = world.agent({"up": {**sink.output("http"), "endpoint": f"https://127.0.0.1:{sink.port}/in"}})
    send(agent, 5)
    agent.settled()
    sink.check(unique=5)


def wrong_certificate(world, sink, output, word):
    """The output holds, says why, sends nothing, and keeps everything."""
    agent = world.agent({"up": output}).explain("up")
    send(agent, 5)
    until(lambda: agent.metric("penstock_output_state", output="up", state="held") == 1, "the output holds")
    assert sink.stats()["requests"] == 0
    assert agent.ledger("up")["pending"] == 5
    assert word in str(agent.status()).lower(), agent.status()
    return agent


def test_self_signed_without_ca_file_is_held(world):
    sink = world.sink(tls=True)
    output = sink.output("http")
    output.pop("tls")
    wrong_certificate(world, sink, output, "certificate")


def test_wrong_name_is_held(world):
    sink = world.sink(tls=True)
    wrong_certificate(world, sink, sink.output("http", tls={"server_name": "elsewhere.example"}), "name")


def test_wrong_address_is_held(world):
    ca = world.authority()
    cert, key = ca.issue("other", "DNS:localhost,IP:127.0.0.9")
    sink = world.sink(cert=(cert, key), ca=ca.ca)
    output = sink.output("http")
    output["endpoint"] = f"https://127.0.0.1:{sink.port}/in"
    agent = world.agent({"up": output}).explain("up")
    send(agent, 5)
    until(lambda: agent.metric("penstock_output_state", output="up", state="held") == 1, "the output holds")


@pytest.mark.parametrize("name, begin, end", [("expired", "20200101000000Z", "20210101000000Z"),
                                              ("future", "20390101000000Z", "20400101000000Z")])
def test_a_certificate_out_of_its_time_is_held(world, name, begin, end):
    ca = world.authority()
    cert, key = ca.issue(name, begin=begin, end=end)
    sink = world.sink(cert=(cert, key), ca=ca.ca)
    agent = world.agent({"up": sink.output("http")}).explain("up")
    send(agent, 5)
    until(lambda: agent.metric("penstock_output_state", output="up", state="held") == 1, "the output holds")
    assert agent.ledger("up")["pending"] == 5


def test_a_certificate_that_is_replaced_takes_effect_by_itself(world):
    good, other = world.authority("good"), world.authority("other")
    cert, key = good.issue("server")
    sink = world.sink(cert=(cert, key), ca=good.ca)
    bundle = world.dir / "bundle.pem"
    bundle.write_bytes(other.ca.read_bytes())
    agent = world.agent({"up": sink.output("http", tls={"ca_file": str(bundle)})}).explain("up")
    send(agent, 5)
    until(lambda: agent.metric("penstock_output_state", output="up", state="held") == 1, "the output holds")
    replacement = world.dir / "bundle.new"
    replacement.write_bytes(good.ca.read_bytes())
    os.rename(replacement, bundle)
    agent.settled()
    sink.check(unique=5)


def test_a_certificate_behind_a_link_that_is_replaced_takes_effect_by_itself(world):
    """As a cluster hands out secrets: the file is named through a directory that is a link, and the link moves."""
    good, other = world.authority("good"), world.authority("other")
    for name, authority in (("old", other), ("new", good)):
        (world.dir / name).mkdir()
        (world.dir / name / "ca.pem").write_bytes(authority.ca.read_bytes())
    (world.dir / "now").symlink_to("old")
    sink = world.sink(cert=good.issue("server"), ca=good.ca)
    agent = world.agent({"up": sink.output("http", tls={"ca_file": str(world.dir / "now" / "ca.pem")})}).explain("up")
    send(agent, 5)
    until(lambda: agent.metric("penstock_output_state", output="up", state="held") == 1, "the output holds")
    (world.dir / "next").symlink_to("new")
    os.rename(world.dir / "next", world.dir / "now")
    agent.settled()
    sink.check(unique=5)


def test_mutual_tls(world):
    ca = world.authority()
    server = ca.issue("server")
    client = ca.issue("client", san="")
    sink = world.sink(cert=server, ca=ca.ca, args=["--client-ca", str(ca.ca)])
    agent = world.agent({"up": sink.output("http", tls={"cert_file": str(client[0]), "key_file": str(client[1])})})
    send(agent, 5)
    agent.settled()
    assert agent.ledger("up")["delivered"] == 5


def test_sessions_are_resumed_or_connections_kept(world):
    sink = world.sink(tls=True)
    agent = world.agent({"up": sink.output("http", concurrency=2)})
    for n in range(20):
        send(agent, 1, n)
        agent.settled()
    assert sink.stats()["handshakes"] <= 2


# --- retries -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_failures_are_retried_with_the_same_id(world, status):
    sink = world.sink(args=["--respond", f"status={status},times=3"])
    agent = world.agent({"up": sink.output("http")}).explain("up")
    send(agent, 10)
    agent.settled()
    stats = sink.check(unique=10)
    assert stats["refused"] == 3 and stats["batches_repeated"] == 3
    assert agent.metric("penstock_retries_total", output="up") >= 3


def test_an_upstream_that_is_away_at_first(world):
    sink = world.sink()
    sink.stop()
    agent = world.agent({"up": sink.output("http")}).explain("up")
    send(agent, 10)
    until(lambda: agent.metric("penstock_output_state", output="up", state="retrying") == 1, "retrying")
    sink.start()
    agent.settled()
    sink.check(unique=10)


@pytest.mark.parametrize("value", ["2", "date:3"])
def test_retry_after_is_a_floor(world, value):
    sink = world.sink(args=["--respond", f"status=503,retry-after={value},times=1"])
    agent = world.agent({"up": sink.output("http")}).explain("up")
    send(agent, 10)
    until(lambda: sink.stats()["refused"] == 1, "the refusal")
    refused = time.monotonic()
    agent.settled()
    # A date has whole seconds: three seconds ahead is more than two from now.
    assert time.monotonic() - refused > 1.8
    sink.check(unique=10)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 406, 415, 301, 302])
def test_a_hold_throws_nothing_away(world, status):
    sink = world.sink(args=["--respond", f"status={status},header=Location: http://127.0.0.1:1/"])
    agent = world.agent({"up": sink.output("http", retry={"initial": "50ms", "max": "1s"})}).explain("up")
    send(agent, 10)
    until(lambda: agent.metric("penstock_output_state", output="up", state="held") == 1, "the output holds")
    assert str(status) in str(agent.status())
    sink.heal()
    agent.settled()
    sink.check(unique=10)
    assert agent.ledger("up")["dead"] == 0


def test_413_splits(world):
    sink = world.sink(args=["--respond", "status=413,times=3"])
    agent = world.agent({"up": sink.output("http")}).explain("up")
    send(agent, 64)
    agent.settled()
    sink.check(unique=64)


def test_400_splits_until_the_bad_ones_stand_alone(world):
    sink = world.sink(args=["--respond", "status=400,body={\"error\":\"no\"}"])
    agent = world.agent({"up": sink.output("http")}).explain("up")
    send(agent, 4)
    until(lambda: agent.ledger("up")["dead"] == 4, "all four are dead")
    assert agent.metric("penstock_events_dead_total", output="up", reason="refused") == 4
    assert agent.ledger("up")["pending"] == 0
    sink.heal()
    send(agent, 3, 100)
    agent.settled()
    sink.check(unique=3)


# --- answers that do not come as they should ------------------------------------------------------------------

@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("rule", ["hangup=body", "hangup=before", "hangup=in", "garbage=http"])
def test_no_whole_answer_means_unknown_and_the_same_batch_goes_again(world, tls, rule):
    sink = world.sink(tls=tls, args=["--respond", f"{rule},times=2"])
    agent = world.agent({"up": sink.output("http")}).explain("up")
    send(agent, 20)
    agent.settled()
    stats = sink.check(unique=20)
    assert stats["processed"] == 20
    if rule != "hangup=body":
        assert stats["batches_repeated"] >= 1
        assert agent.metric("penstock_events_repeated_total", output="up") >= 20


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_whole_answer_counts_even_if_the_connection_ends(world, tls):
    sink = world.sink(tls=tls, args=["--respond", "hangup=after"])
    agent = world.agent({"up": sink.output("http")}).explain("up")
    for n in range(10):
        send(agent, 1, n)
        agent.settled()
    stats = sink.check(unique=10)
    assert stats["repeated"] == 0


def test_a_silent_upstream_times_out_and_is_asked_again(world):
    sink = world.sink(args=["--respond", "delay=5s,times=1"])
    agent = world.agent({"up": sink.output("http", timeout={"request": "500ms"})}).explain("up")
    send(agent, 10)
    agent.settled()
    sink.check(unique=10)


def test_an_answer_byte_by_byte_is_read(world):
    sink = world.sink(args=["--respond", "drip=2ms"])
    agent = world.agent({"up": sink.output("http")})
    send(agent, 10)
    agent.settled()
    sink.check(unique=10)


def test_every_kind_of_bad_line(world):
    sink = world.sink()
    proxy = world.proxy(sink.port)
    proxy.script = ["refuse", "no_reply", "garbage", "cut", "black_hole", "pass"]
    output = sink.output("http", timeout={"request": "700ms"}, concurrency=1)
    output["endpoint"] = f"http://127.0.0.1:{proxy.port}/in"
    agent = world.agent({"up": output}).explain("up")
    send(agent, 10)
    agent.settled(timeout=40)
    stats = sink.check(unique=10)
    assert stats["processed"] == 10


def test_a_reply_lost_and_then_a_kill_repeats_the_same_id_and_bytes(world):
    sink = world.sink()
    proxy = world.proxy(sink.port, "no_reply")
    output = sink.output("http")
    output["endpoint"] = f"http://127.0.0.1:{proxy.port}/in"
    agent = world.agent({"up": output}).explain("up")
    send(agent, 30)
    until(lambda: sink.stats()["requests"] >= 1, "the request got through")
    agent.kill()
    proxy.mode = "pass"
    agent.start()
    agent.settled()
    stats = sink.check(unique=30)
    assert stats["batches_repeated"] >= 1 and stats["processed"] == 30


def test_an_upstream_that_is_down_is_probed_with_one_request(world):
    sink = world.sink(args=["--respond", "status=503"])
    agent = world.agent({"up": sink.output("http", concurrency=8, batch={"max_events": 10}, retry={"initial": "200ms", "max": "5s"})})
    agent.explain("up")
    send(agent, 10)
    until(lambda: agent.metric("penstock_output_state", output="up", state="retrying") == 1, "retrying")
    for n in range(1, 40):
        send(agent, 10, n * 10)
    time_of_calm = sink.stats()["requests"]
    assert time_of_calm < 20
    sink.heal()
    agent.settled()
    sink.check(unique=400)


def test_dns_that_does_not_resolve_is_retried(world):
    agent = world.agent({"up": {"type": "http", "endpoint": "http://no-such-host.invalid:1/in",
                                "retry": {"initial": "50ms", "max": "200ms"}}}).explain("up")
    send(agent, 3)
    until(lambda: agent.metric("penstock_output_state", output="up", state="retrying") == 1, "retrying")
    assert agent.ledger("up")["pending"] == 3


def test_secrets_are_read_again(world):
    sink = world.sink(args=["--accept-key", "second"])
    secret = world.dir / "secret"
    secret.write_text("first\n")
    agent = world.agent({"up": sink.output("http", credentials={"bearer": f"${{file:{secret}}}"})}).explain("up")
    send(agent, 5)
    until(lambda: agent.metric("penstock_output_state", output="up", state="held") == 1, "the output holds")
    secret.write_text("second\n")
    agent.settled()
    sink.check(unique=5)
    assert "second" not in agent.process.err()


# --- every api -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("api", ["cloudevents", "http", *CREDENTIALS])
def test_neutral_events_reach_every_api_as_its_vendor_wants_them(world, api):
    sink = world.sink(tls=True)
    agent = world.agent({"up": sink.output(api)})
    events = [event(n, "com.acme.OrderPlaced", subject=f"u-{n % 7}", sampledrate=1) for n in range(200)]
    assert agent.post(events).json() == {"accepted": 200}
    agent.settled()
    stats = sink.check(unique=200)
    assert stats["apis"][api]["processed"] == 200 and stats["repeated"] == 0


@pytest.mark.parametrize("api", ["langfuse", "launchdarkly", "monk", "http", "cloudevents"])
def test_where_the_upstream_deduplicates_each_event_is_processed_once(world, api):
    sink = world.sink(args=["--respond", "hangup=before,every=2"])
    agent = world.agent({"up": sink.output(api, batch={"max_events": 20})}).explain("up")
    events = [event(n, "com.acme.OrderPlaced", subject="u") for n in range(200)]
    assert agent.post(events).json() == {"accepted": 200}
    agent.settled(timeout=60)
    stats = sink.check(unique=200)
    assert stats["processed"] == 200 and stats["repeated"] > 0


# --- names ----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def names_library(tmp_path_factory):
    """getaddrinfo() as a test wants it."""
    library = tmp_path_factory.mktemp("names") / "names.so"
    done = run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(ROOT / "tests/e2e/names.c"), "-ldl"])
    assert done.returncode == 0, done.stderr
    return library


def named(world, library, names, **more):
    """The environment in which these names have these addresses."""
    return {"LD_PRELOAD": str(library), "NAMES": names, "NAMES_LOG": str(world.dir / "lookups"), **more}


def lookups(world):
    path = world.dir / "lookups"
    return path.read_text().splitlines() if path.exists() else []


def test_all_addresses_of_a_name_are_tried_in_turn(world, names_library):
    """The first refuses, the second never answers, the third is well."""
    sink = world.sink()
    silent = socket.socket()
    silent.bind(("127.0.0.3", sink.port))
    silent.listen(0)
    waiting = [socket.socket() for _ in range(4)]   # its queue is full: what comes next is not answered
    for s in waiting:
        s.setblocking(False)
        s.connect_ex(("127.0.0.3", sink.port))
    agent = world.agent({"up": sink.output("http", timeout={"connect": "300ms"})}, start=False,
                        env=named(world, names_library, "shop.test=127.0.0.2,127.0.0.3,127.0.0.1"))
    agent.config["outputs"]["up"]["endpoint"] = f"http://shop.test:{sink.port}/in"
    agent.start()
    assert agent.post([event(n) for n in range(5)]).status == 202
    agent.settled()
    sink.check(unique=5)
    assert agent.metric("penstock_retries_total", output="up") == 0, "it was one attempt"
    for s in [silent, *waiting]:
        s.close()


def test_an_output_looks_its_name_up_once_at_a_time(world, names_library):
    """However many requests could be under way, and however slow the name service is."""
    sink = world.sink()
    agent = world.agent({"up": sink.output("http", concurrency=8, batch={"max_events": 1}),
                         "well": sink.output("http", path="/well")}, start=False,
                        routes=[{"when": {"type": "slow.*"}, "to": ["up"]}, {"to": ["well"]}],
                        env=named(world, names_library, "shop.test=127.0.0.1", NAMES_SECONDS="1"))
    agent.config["outputs"]["up"]["endpoint"] = f"http://shop.test:{sink.port}/in"
    agent.start()
    assert agent.post([event(n, "slow.event") for n in range(8)]).status == 202
    until(lambda: lookups(world), "it looks its name up")
    for n in range(100, 110):
        assert agent.post(event(n)).status == 202
        agent.settled("well")
    assert len(lookups(world)) == 1
    agent.settled()
    sink.check(unique=18)
