"""Each vendor's table of answers, row by row: the sink gives the answer, the agent does what the row says.

The unit tests judge every row with every body that was seen; here the same rows go the whole way: from a sink that was
told to answer so, by the real connection, to what became of the events. One agent and one sink live through a whole
table, and after each row nothing is pending and the ledger and the sink agree.
"""
import pytest
from harness import event, until

EVENTS = 3


class Table:
    def __init__(self, world, api):
        self.sink = world.sink()
        self.agent = world.agent({"up": self.sink.output(api, concurrency=1, retry={"initial": "20ms", "max": "50ms"})})
        self.agent.explain("up")
        self.api, self.count, self.dead = api, 0, 0

    def deaths(self, reason):
        return self.agent.metric("penstock_events_dead_total", output="up", reason=reason)

    def results(self, result):
        return self.agent.metric("penstock_batches_total", output="up", result=result)

    def requests(self):
        return self.sink.stats()["requests"]

    def send(self):
        """Large enough that it is compressed where that is the rule; all of it is one batch."""
        events = [event(self.count + n, "com.acme.order_placed", size=600, subject="u-1") for n in range(EVENTS)]
        self.count += EVENTS
        assert self.agent.post(events).status == 202

    def heal(self):
        self.sink.heal()
        self.agent.admin("POST", "/outputs/up/resume")

    def ends(self, dead=0):
        """Everything is delivered, but for so many of this row's events that are dead."""
        self.agent.settled()
        self.dead += dead
        ledger = self.agent.ledger("up")
        assert ledger == {"accepted": self.count, "pending": 0, "delivered": self.count - self.dead, "dead": self.dead, "dropped": 0}

    # what a row may say
    def delivered(self, rule, result="delivered"):
        before, results = self.requests(), self.results(result)
        self.sink.respond(rule)
        self.send()
        self.ends()
        assert self.requests() == before + 1
        assert self.results(result) == results + 1

    def again(self, rule, sends=2):
        """Asked for once, so that what comes after it is taken."""
        before = self.requests()
        self.sink.respond(f"times=1,{rule}")
        self.send()
        self.ends()
        assert self.requests() == before + sends

    def split(self, rule, reason="refused"):
        """Once: halved, and then taken. Always: down to each event, which dies of it."""
        self.again(rule, sends=3)
        self.all_die(rule, reason)

    def all_die(self, rule, reason):
        before = self.deaths(reason)
        self.sink.respond(rule)
        self.send()
        self.ends(dead=EVENTS)
        assert self.deaths(reason) == before + EVENTS

    def one_dies(self, rule, reason="refused"):
        before = self.deaths(reason)
        self.sink.respond(rule)
        self.send()
        self.ends(dead=1)
        assert self.deaths(reason) == before + 1

    def held(self, rule):
        self.sink.respond(rule)
        self.send()
        until(lambda: self.agent.metric("penstock_output_state", output="up", state="held") == 1, "it is held")
        self.heal()
        self.ends()

    def partition_held(self, rule):
        self.sink.respond(rule)
        self.send()
        until(lambda: self.agent.status()["outputs"][0]["held_partitions"], "its partition is held")
        self.heal()
        self.ends()


def rows(*names):
    """(what, rule) of several statuses that share a row."""
    return [(names[0], f"status={status}") for status in names[1:]]


PASSING = rows("again", 408, 500, 502, 503, 504) + [("again", "status=429"), ("again", "status=429,retry-after=0")]
# Batches stay smaller for a while after it: the last row of each table.
TOO_LARGE = [("split", "status=413", "too_large")]

TABLES = {
    "honeycomb": PASSING + [
        ("split", "status=400"),
        ("again", "status=403"), ("again", "status=302"), ("again", "status=529"),
        ("held", 'status=400,body={"error":"unknown API key - check your credentials"}'), ("held", "status=401"), ("held", "status=405"),
        ("partition_held", "status=404"),
        ("one_dies", "event=1:status=400"), ("one_dies", "event=2:status=413", "too_large"),
        ("again", "event=1:status=429"), ("again", "event=*:status=500"), ("again", "event=0:status=503"), ("again", "event=0:status=408"),
        ("again", "results=1"), ("again", "garbage"), ("all_die", "garbage", "bad_response"),
        ("again", "status=415"), ("held", "status=415"),  # without compression; then that is not what it minded
        ("split", 'status=400,body={"error":"request body is too large"}', "too_large"), ("all_die", "status=413", "too_large"),
    ],
    "langfuse": PASSING + [
        ("split", "status=400"),
        ("split", "status=422"), *rows("held", 401, 403, 404, 405, 410, 302),
        ("one_dies", "event=0:status=400"), ("one_dies", "event=1:status=401"), ("one_dies", "event=2:status=404"),
        ("again", "event=1:status=408"), ("again", "event=1:status=429"), ("again", "event=*:status=500"),
        ("again", "results=2"), ("all_die", "results=0", "no_result"), ("again", "garbage"),
    ],
    "launchdarkly": PASSING + [
        ("split", "status=400"),
        *rows("held", 401, 406, 302), *rows("partition_held", 403, 404), ("split", "status=409"), ("split", "status=422"),
        ("delivered", "status=200"), ("again", "status=415"), ("held", "status=415"),
    ],
    "monk": PASSING + [
        ("split", "status=400"), ("split", "status=422"), *rows("held", 401, 403, 404, 405, 406, 410, 415, 302),
        ("split", 'status=404,body={"error":{"message":"customer not found","code":"NOT_FOUND"}}'),
        ("delivered", 'body={"status":"accepted","requestId":"req_1"}'), ("delivered", "garbage"),
        ("again", 'status=202,store=no,body={"status":"accepted","count":1,"requestId":"req_1"}'),
        ("all_die", 'status=202,store=no,body={"status":"accepted","count":0,"requestId":"req_1"}', "count_mismatch"),
        ("again", "status=409", 3),
    ],
    "segops": PASSING + [
        ("split", "status=400"),
        *rows("held", 401, 403, 404, 405, 415, 301, 302, 307, 308),
        ("delivered", 'status=202,store=yes,body={"queued":1,"skipped":2}', "skipped"),
        ("delivered", 'status=202,store=yes,body={"queued":1}', "skipped"), ("delivered", "status=200,store=yes,body={}"),
    ],
    "cloudevents": PASSING + [
        ("split", "status=400"),
        *rows("delivered", 200, 201, 202, 204), ("split", "status=422"), *rows("held", 401, 403, 404, 410, 301, 307),
        ("again", "status=415", 1 + EVENTS), ("all_die", "status=413", "too_large"),  # one by one from now on
    ],
    "http": PASSING + [
        ("split", "status=400"),
        *rows("delivered", 200, 201, 204, 299), ("again", "status=425"), ("split", "status=422"),
        *rows("held", 401, 403, 404, 405, 406, 301, 303), ("again", "status=415"), ("held", "status=415"),
    ],
}


@pytest.mark.parametrize("api", TABLES)
def test_what_the_agent_does_with_each_answer(world, api):
    table = Table(world, api)
    last = [] if api in ("honeycomb", "cloudevents") else TOO_LARGE
    for what, rule, *more in TABLES[api] + last:
        try:
            getattr(table, what)(rule, *more)
        except AssertionError as e:
            raise AssertionError(f"{what} {rule}: {e}") from e
        table.heal()
    table.sink.check()


def test_an_answer_of_monk_that_cannot_be_read_is_told(world):
    sink = world.sink(args=["--respond", "garbage"])
    agent = world.agent({"up": sink.output("monk")}).explain("the answer could not be read")
    agent.post([event(n, "com.acme.order_placed", subject="u-1") for n in range(EVENTS)])
    agent.settled()
    assert agent.ledger("up")["delivered"] == EVENTS
    assert len([line for line in agent.all_said() if f"{EVENTS} events (seq 1 to {EVENTS})" in line]) == 1
