"""kill -9 at every moment between a batch's first byte and its end, for every api.

The upstream itself says when: it kills the agent as it accepts the connection (the batch has its identity on disk, and
nothing of it is sent), at the request's first byte, at its last one before and after it has taken the events, within
the answer and behind it; then the test kills when the agent has counted the answer, and when that is on disk. What is
sent again is the batch that it was, under the same identity where the vendor knows one, and is counted as a
possible repeat; after deduplication every event is there once.
"""
import json

import pytest
from front import Front, Gone, reset_when_taken
from harness import event, until


class Killer:
    """The acts that end the agent, from the upstream's side; the connection ends with it."""

    def __init__(self, agent):
        self.agent = agent

    def at_the_connection(self, sock):
        self.now()

    def at_the_first_byte(self, request):
        self.now()

    def at_the_last_byte(self, request):
        request.read()
        self.now()

    def when_taken(self, request):
        request.read().ask_sink()
        self.now()

    def within_the_answer(self, request):
        answer = request.read().ask_sink()
        request.say(answer[:-1])
        self.now()

    def behind_the_answer(self, request):
        request.read().say(request.ask_sink())
        self.now()

    def now(self):
        self.agent.kill()
        raise Gone


# moment, and must the batch come again? None: it may.
MOMENTS = [("at_the_connection", False), ("at_the_first_byte", False), ("at_the_last_byte", True), ("when_taken", True),
           ("within_the_answer", True), ("behind_the_answer", None), ("counted", None), ("counted_on_disk", False)]


# Requests that go on as they came: each is a batch of its own.
OPAQUE = {"otlp": "/v1/traces", "langfuse otel": "/api/public/otel/v1/traces", "launchdarkly sdk": "/bulk"}


class Events:
    """Numbered events, by the neutral path or, for opaque requests, the api's own."""

    def __init__(self, agent, api):
        self.agent, self.api, self.count = agent, api, 0
        self.per_moment = 1 if api in OPAQUE else 7

    def send(self, n):
        numbers = range(self.count, self.count + n)
        self.count += n
        if self.api == "launchdarkly sdk":
            for n in numbers:
                body = [{"kind": "identify", "creationDate": 1544712660000 + n, "context": {"kind": "user", "key": f"u-{n}"}}]
                headers = {"Authorization": "sdk-test", "X-LaunchDarkly-Event-Schema": "4",
                           "X-LaunchDarkly-Payload-ID": f"00000000-0000-4000-8000-{n:012}", "User-Agent": "GoClient/7.0.0"}
                self.send_opaque(body, headers, 202)
        elif self.api in OPAQUE:
            span = {"traceId": f"{self.count:032x}", "spanId": f"{self.count:016x}", "name": f"span {self.count}", "kind": 1,
                    "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": "1544712661000000000"}
            self.send_opaque({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}, {}, 200)
        else:
            body = [event(number, "com.acme.OrderPlaced", subject="u-1") for number in numbers]
            assert self.agent.post(body).json() == {"accepted": n}

    def send_opaque(self, body, headers, status):
        """Its batch waits for nothing more: the upstream may have it, and kill the agent, before the sender is answered."""
        with self.agent.wire() as wire:
            wire.request("POST", OPAQUE[self.api], json.dumps(body), {"Content-Type": "application/json", **headers})
            try:
                reply = wire.reply()
            except ConnectionError:
                reply = None
        assert reply is None or reply.status == status


def live_through(agent, front, events, moment):
    """Sends some events, and dies at that moment of theirs. How often each event had gone up by then, of those that the
    moment is about."""
    killer = Killer(agent)
    if moment == "at_the_connection":
        front.gates = [killer.at_the_connection]
    elif not moment.startswith("counted"):
        front.script = [getattr(killer, moment)]
    events.send(events.per_moment)
    if moment.startswith("counted"):
        agent.settled()
        before = front.sends(events.api)
        if moment == "counted_on_disk":
            events.send(1)     # the commit of this event takes along what was not written yet; it may go up itself
        agent.kill()
    until(lambda: not agent.process.alive(), "the agent was killed at that moment")
    front.gates, front.script = [], []
    return before if moment.startswith("counted") else None


@pytest.mark.parametrize("api", ["http", "honeycomb", "langfuse", "launchdarkly", "monk", "segops", "cloudevents", *OPAQUE])
def test_a_kill_at_any_moment_of_a_batch_changes_nothing_for_the_upstream(world, api):
    sink = world.sink()
    front = Front(world, sink.port)
    # One request at a time; the sender is answered well before the batch is closed.
    more = {"mode": "batch"} if api == "cloudevents" else {}
    output = front.output(sink, api.split()[0], concurrency=1, batch={"max_wait": "100ms"},
                          retry={"initial": "10ms", "max": "50ms"}, **({} if api == "otlp" else {"compression": "none"}), **more)
    agent = world.agent({"up": output}).explain("up", "note: an otlp output")
    events = Events(agent, api)
    for moment, again in MOMENTS:
        repeats = front.repeats(api)
        before = live_through(agent, front, events, moment)
        agent.start()
        agent.settled(timeout=30)
        if before is None:
            came_again = front.repeats(api) - repeats
        else:
            came_again = sum(n - before[event] for event, n in front.sends(api).items() if event in before)
        if again is not None:
            assert (came_again > 0) == again, f"{moment}: {came_again} events came again"
        front.one_identity_each(api)
        assert agent.metric("penstock_events_repeated_total", output="up") >= front.repeats(api), moment
        stats = sink.check(unique=events.count)
        if api not in ("honeycomb", "segops", "otlp", "langfuse otel"):
            assert stats["processed"] == events.count, moment
        ledger = agent.ledger("up")
        assert ledger == {"accepted": events.count, "pending": 0, "delivered": events.count, "dead": 0, "dropped": 0}, moment
    assert front.errors == []


@pytest.mark.parametrize("api", ["http", "honeycomb"])
def test_repeats_are_counted_before_they_are_sent(world, api):
    """Each life sends the batch, the upstream takes it, and the agent dies of it: no count of that may be lost."""
    sink = world.sink()
    front = Front(world, sink.port)
    output = front.output(sink, api, concurrency=1, compression="none", batch={"max_wait": "100ms"}, retry={"initial": "10ms", "max": "50ms"})
    agent = world.agent({"up": output}).explain("up")
    events = Events(agent, api)
    for life in range(5):
        front.script = [Killer(agent).when_taken]
        if life == 0:
            events.send(events.per_moment)
        else:
            agent.launch()
        until(lambda: not agent.process.alive(), "the agent was killed at that moment")
    # And within one life: answers that do not come.
    front.script = [reset_when_taken] * 3 + [Killer(agent).when_taken]
    agent.launch()
    until(lambda: not agent.process.alive(), "the agent was killed at that moment")
    agent.start()
    agent.settled()
    assert front.repeats(api) == 9 * events.per_moment
    front.one_identity_each(api)
    counted = agent.metric("penstock_events_repeated_total", output="up")
    assert counted == front.repeats(api), f"{counted} counted, {front.repeats(api)} came again"
