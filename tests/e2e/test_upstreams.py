"""Upstreams as they come: each way in which a connection, a request or an answer can go wrong, twice in a row, then well.

After each of them nothing is pending, every event is with the upstream, and what was sent again was the same batch,
byte for byte, under the same name. Where an answer was whole by its own framing, nothing was sent again at all.
"""
import ssl

import pytest
from front import (GOOD, OK_HEAD, Front, before_the_answer, black_hole, chunked, part_of_the_answer, reset_before_the_answer,
                   reset_before_the_request, reset_in_the_request, reset_when_taken, rewritten, says, slow_answer, slow_reader,
                   without)
from harness import PENSTOCK, event, run, until

FEW = 20


def front_for(world, tls, **more):
    """A front with a sink behind it, and an output to it that is not patient."""
    sink = world.sink()
    if not tls:
        return sink, Front(world, sink.port), {"compression": "none", "timeout": {"request": "1s"}, **more}
    ca = world.authority()
    front = Front(world, sink.port, tls=ca.issue("localhost"))
    return sink, front, {"compression": "none", "timeout": {"request": "1s"}, "tls": {"ca_file": str(ca.ca)}, **more}


def settles_once_each(agent, sink, front, count, timeout=30):
    agent.settled(timeout=timeout)
    stats = sink.check(unique=count)
    assert stats["processed"] == count, stats
    assert agent.ledger("up") == {"accepted": count, "pending": 0, "delivered": count, "dead": 0, "dropped": 0}
    front.one_identity_each("http")
    assert front.errors == []
    return stats


GONE = [
    # act, and does the batch come again?
    (reset_before_the_request, True), (reset_in_the_request, True), (reset_before_the_answer, True), (reset_when_taken, True),
    *[(part_of_the_answer(end, share), True) for end in ("reset", "close") for share in ("line", "head", "headers", "body")],
    # Behind the last byte of an answer a reset may be noticed first.
    (part_of_the_answer("reset", "all"), None), (part_of_the_answer("close", "all"), False),
    (black_hole, True), (slow_reader, False), (slow_answer, False),
]

MANGLED = [
    (says("noise", b"\x00\xff\x16\x03\x01noise\r\n\r\n" * 20), True),
    (says("nothing_but_a_line_end", b"\r\n"), True),
    (says("another_protocol", b"220 mail.example ESMTP\r\n"), True),
    (says("http_2", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"), True),
    (says("status_of_two_digits", b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}"), True),
    (says("headers_without_end", OK_HEAD + b"X-Long: " + b"x" * 2_000_000), True),
    (says("more_headers_than_anyone_needs", OK_HEAD + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\n"), True),
    (says("a_header_with_a_zero_byte", OK_HEAD + b"X: a\x00b\r\nContent-Length: 2\r\n\r\n{}"), True),
    (says("chunks_cut_off", OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), True),
    (says("chunks_cut_off_in_one", OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n20\r\n{"), True),
    (says("chunks_without_their_last_line", OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"), True),
    (says("chunk_of_a_wrong_size", OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n"), True),
    (says("chunk_of_no_size", OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"), True),
    (says("chunk_of_an_endless_size", OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}"), True),
    (says("less_than_its_length", OK_HEAD + b"Content-Length: 100\r\n\r\n{}"), True),
    (says("closed_after_the_headers", OK_HEAD + b"Content-Length: 2\r\n\r\n"), True),
    (says("two_lengths", OK_HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), True),
    (says("a_length_and_chunks", OK_HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), True),
    (says("a_negative_length", OK_HEAD + b"Content-Length: -2\r\n\r\n{}"), True),
    (says("a_coding_nobody_asked_for", OK_HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), True),
    (says("switching_protocols", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), True),
    (says("interim_answers_and_then_nothing", b"HTTP/1.1 100 Continue\r\n\r\n" * 3), True),
    (says("interim_answers_without_end", b"HTTP/1.1 102 Processing\r\n\r\n" * 100_000), True),
    (says("an_interim_answer_and_silence", b"HTTP/1.1 100 Continue\r\n\r\n", end="wait_until_it_gives_up"), True),
]

UNUSUAL = [
    (before_the_answer("continue", b"HTTP/1.1 100 Continue\r\n\r\n"), False),
    (before_the_answer("processing_and_hints", b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"), False),
    (rewritten("in_chunks", lambda head, body: without(head, b"content-length") + b"\r\nTransfer-Encoding: chunked\r\n\r\n" +
               chunked(body), end=None), False),
    (rewritten("chunks_with_extensions_and_trailers", lambda head, body: without(head, b"content-length") +
               b"\r\nTransfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%s\r\n0\r\nX-Trailer: y\r\n\r\n" % (len(body), body), end=None), False),
    (rewritten("up_to_the_end", lambda head, body: without(head, b"content-length") + b"\r\n\r\n" + body), False),
    (rewritten("http_1_0", lambda head, body: head.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n\r\n" + body), False),
    (rewritten("http_1_0_up_to_the_end", lambda head, body: without(head, b"content-length").replace(b"HTTP/1.1", b"HTTP/1.0") +
               b"\r\n\r\n" + body), False),
    (rewritten("http_1_0_keep_alive", lambda head, body: head.replace(b"HTTP/1.1", b"HTTP/1.0") +
               b"\r\nConnection: keep-alive\r\n\r\n" + body, end=None), False),
    (rewritten("says_close_and_does_not", lambda head, body: head + b"\r\nConnection: close\r\n\r\n" + body, end=None), False),
    (rewritten("no_content", lambda head, body: b"HTTP/1.1 204 No Content\r\n\r\n", end=None), False),
    (rewritten("no_words_to_its_status", lambda head, body: head.replace(b" OK", b"", 1) + b"\r\n\r\n" + body, end=None), False),
    (rewritten("twice", lambda head, body: 2 * (head + b"\r\n\r\n" + body), end=None), False),
    (rewritten("good_and_then_a_refusal", lambda head, body: head + b"\r\n\r\n" + body +
               b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", end=None), False),
    (rewritten("more_than_its_length", lambda head, body: head + b"\r\n\r\n" + body + b"and more", end=None), False),
]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("acts", [GONE, MANGLED, UNUSUAL], ids=["gone", "mangled", "unusual"])
def test_whatever_an_upstream_does_each_event_arrives_once_under_one_name(world, tls, acts):
    sink, front, more = front_for(world, tls)
    agent = world.agent({"up": front.output(sink, retry={"initial": "10ms", "max": "50ms"}, **more)}).explain("up")
    count = 0
    for act, again in acts:
        before = len(front.seen), front.repeats("http"), front.connections
        front.script = [act, act]
        # Several requests, so that the next one meets the connection as the act has left it.
        for _ in range(2):
            assert agent.post([event(count + n, size=50) for n in range(FEW)]).json() == {"accepted": FEW}
            count += FEW
            agent.settled(timeout=30)
        assert front.script == [], f"{act.__name__}: it was not met"
        repeats = front.repeats("http") - before[1]
        if again is not None and act not in (reset_before_the_request, reset_in_the_request):
            assert (repeats > 0) == again, f"{act.__name__}: {repeats} events came again"
        try:
            settles_once_each(agent, sink, front, count)
        except AssertionError as e:
            raise AssertionError(f"after {act.__name__}") from e
    assert agent.metric("penstock_events_repeated_total", output="up") >= front.repeats("http")


# --- before a request is whole ---------------------------------------------------------------------------------

def early(name, data, end):
    return says(name, data, end=end, early=True)


# 18 events of 190,000 bytes are one batch, however slowly they come: a kernel takes the half of that at once, and then
# the request is whole.
MUCH = {"max_bytes": "4MB", "max_events": 18, "max_wait": "60s"}
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("act", [early("refused_and_closed", REFUSED, "close"), early("refused_and_reset", REFUSED, "reset"),
                                 early("refused_and_deaf", REFUSED, "leave_it"),
                                 early("thanked_and_closed", GOOD, "half_close"), early("thanked_and_reset", GOOD, "reset"),
                                 early("thanked_and_deaf", GOOD, "leave_it")],
                         ids=lambda act: act.__name__)
def test_an_answer_before_the_request_is_whole_delivers_nothing(world, tls, act):
    """Whoever thanks for what it has not got does not have it: such an answer says nothing about the events. (Whoever
    goes on to read the whole request after thanking for it does have it, and is believed.)"""
    sink, front, more = front_for(world, tls, batch=MUCH)
    front.small_buffers()
    front.script = [act, act]
    agent = world.agent({"up": front.output(sink, **more)}).explain("up")
    assert agent.post([event(n, size=190_000) for n in range(18)]).json() == {"accepted": 18}
    settles_once_each(agent, sink, front, 18)
    assert front.script == []


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_answer_before_the_request_is_whole_counts_when_the_rest_was_taken_as_well(world, tls):
    sink, front, more = front_for(world, tls, batch=MUCH)
    front.small_buffers()

    def thanks_first(request):
        request.read_head().say(GOOD).read().ask_sink()
    front.mode = thanks_first
    agent = world.agent({"up": front.output(sink, **more)}).explain("up")
    assert agent.post([event(n, size=190_000) for n in range(18)]).json() == {"accepted": 18}
    until(lambda: sink.stats()["unique"] == 18, "all of it is with the upstream")
    settles_once_each(agent, sink, front, 18)
    assert front.repeats("http") == 0


# --- connections that were kept -----------------------------------------------------------------------------------

@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_kept_connection_that_was_closed_while_idle_costs_nothing(world, tls):
    sink, front, more = front_for(world, tls)
    agent = world.agent({"up": front.output(sink, **more)}).explain("up")
    for round_ in range(8):
        assert agent.post([event(round_ * FEW + n) for n in range(FEW)]).status == 202
        agent.settled()
        (front.close_idle, front.reset_all)[round_ % 2]()
    settles_once_each(agent, sink, front, 8 * FEW)
    assert front.repeats("http") == 0


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_kept_connection_that_ends_as_the_next_request_comes_repeats_it_at_once(world, tls):
    sink, front, more = front_for(world, tls, retry={"initial": "20s", "max": "30s"})
    agent = world.agent({"up": front.output(sink, **more)}).explain("up")
    for round_ in range(2):
        assert agent.post([event(round_ * FEW + n) for n in range(FEW)]).status == 202
        # Long before the first delay of a retry.
        agent.settled(timeout=15)
        front.script = [reset_before_the_answer]
    settles_once_each(agent, sink, front, 2 * FEW)


# --- who the upstream is ------------------------------------------------------------------------------------------

def old_server():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return context


def holding(sock):
    """Takes the connection and never says a word: not in TLS either."""
    while sock.recv(65536):
        pass
    return True


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind, state", [("other_authority", "held"), ("other_name", "held"), ("expired", "held"), ("no_name", "held"),
                                         ("for_clients", "held"), ("tls_1_1", "retrying"), ("tls_1_3", "retrying"), ("plain_http", "retrying"), ("silent", "retrying")])
def test_an_upstream_that_is_not_what_it_should_be_gets_nothing_and_once_it_is_gets_all(world, kind, state):
    sink = world.sink()
    ca = world.authority()
    good = ca.issue("localhost")
    front = Front(world, sink.port, tls=good)
    context = front.context
    wrong = {"other_authority": lambda: world.authority("other").issue("localhost"), "other_name": lambda: ca.issue("else", "DNS:else.example"),
             "expired": lambda: ca.issue("old", begin="20200101000000Z", end="20210101000000Z"), "no_name": lambda: ca.issue("none", san=""),
             "for_clients": lambda: ca.issue("client", extra="extendedKeyUsage = clientAuth")}.get(kind, lambda: good)()
    front.context = old_server() if kind == "tls_1_1" else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    front.context.load_cert_chain(*map(str, wrong))
    if kind == "tls_1_3":
        if "mbed TLS 2." not in run([PENSTOCK, "version"]).stdout:
            pytest.skip("this build speaks TLS 1.3")
        front.context.minimum_version = ssl.TLSVersion.TLSv1_3
    if kind == "plain_http":
        front.context = None
    output = front.output(sink, compression="none", tls={"ca_file": str(ca.ca)}, timeout={"connect": "500ms", "request": "1s"})
    output["endpoint"] = f"https://localhost:{front.port}/in"
    if kind == "silent":
        front.gates = [holding] * 100
    agent = world.agent({"up": output}).explain("up")
    assert agent.post([event(n) for n in range(FEW)]).status == 202
    until(lambda: agent.metric("penstock_output_state", output="up", state=state) == 1, f"the output is {state}")
    if kind == "for_clients":
        assert "was issued for another use" in agent.status()["outputs"][0]["last_error"]["text"]
    if kind == "tls_1_3":
        until(lambda: "this build speaks 1.2 alone: the peer must allow it" in str(agent.status()), "and says what to do")
    assert front.seen == [] and sink.stats()["requests"] == 0
    assert agent.ledger("up")["pending"] == FEW
    front.context, front.gates = context, []
    settles_once_each(agent, sink, front, FEW)
