"""Four outputs in one agent: one is down, one is slow, one is full, one is well. None waits for another."""
import threading

from front import Front
from harness import event, until


def when_it_is_let(request):
    """Takes a request only when the test lets it: slower than any clock."""
    request.read()
    assert request.front.gate.wait(60)
    request.say(request.ask_sink())


class Four:
    def __init__(self, world):
        self.sinks = {name: world.sink() for name in ("down", "slow", "full", "well")}
        self.sinks["full"].respond("status=503")
        self.sinks["down"].stop()
        self.front = Front(world, self.sinks["slow"].port, mode=when_it_is_let)
        self.front.gate = threading.Event()
        quick = {"retry": {"initial": "50ms", "max": "200ms"}}
        outputs = {name: sink.output("http", **quick) for name, sink in self.sinks.items() if name != "slow"}
        outputs["slow"] = self.front.output(self.sinks["slow"], compression="none", timeout={"request": "60s"}, **quick)
        outputs["full"]["spool"] = {"max_bytes": "4MiB"}
        self.agent = world.agent(outputs, routes=[{"when": {"type": f"{name}.*"}, "to": [name]} for name in outputs])
        self.agent.explain("down", "full", "slow")
        self.accepted = {name: [] for name in self.sinks}
        self.count = 0

    def offer(self, name, n=10, size=100):
        """True when the agent has taken so many events for that output."""
        numbers = list(range(self.count, self.count + n))
        self.count += n
        reply = self.agent.post([event(k, f"{name}.happened", size=size) for k in numbers])
        assert reply.status in (202, 429), reply
        if reply.status == 202:
            self.accepted[name] += numbers
        return reply.status == 202

    def well_is_well(self):
        """Everything for it is accepted and delivered while the others stand still."""
        assert self.offer("well")
        self.agent.settled("well")
        assert sorted(self.sinks["well"].numbers()) == self.accepted["well"]

    def others_stand_still(self):
        for name in ("down", "slow", "full"):
            assert self.agent.ledger(name)["pending"] == len(self.accepted[name]), name
            assert self.agent.ledger(name)["delivered"] == 0, name


def test_four_outputs_do_not_wait_for_one_another(world):
    four = Four(world)
    for n in (10, 1):  # there is no room for ten, and in the end not for one
        while four.offer("full", n=n, size=50_000):
            four.well_is_well()
    for name in ("down", "slow"):
        assert four.offer(name)
    until(lambda: four.front.seen, "the slow one has a request in hand")
    assert four.agent.metric("penstock_output_state", output="full", state="full") == 1
    assert four.agent.admin("GET", "/readyz").status == 200
    for _ in range(5):
        four.well_is_well()
        assert not four.offer("full", size=50_000)
        assert four.offer("down") and four.offer("slow")
        four.others_stand_still()

    # A request with events for the full one among others is refused whole: none of it is anywhere.
    mixed = [event(900_000, "well.happened"), event(900_001, "full.happened", size=50_000)]
    assert four.agent.post(mixed).status == 429
    four.well_is_well()

    # The same after a death: what stood still stands still, what was well is well at once.
    four.agent.kill()
    four.agent.start()
    four.others_stand_still()
    four.well_is_well()

    # And one by one they come back.
    four.front.gate.set()
    four.agent.settled("slow")
    four.well_is_well()
    four.sinks["full"].heal()
    four.agent.settled("full")
    until(lambda: four.offer("full"), "the full one takes again")
    four.well_is_well()
    four.sinks["down"].start()
    four.agent.settled()
    for name, sink in four.sinks.items():
        assert sorted(sink.numbers()) == four.accepted[name], name
        sink.check(unique=len(four.accepted[name]))
    four.front.one_identity_each("http")
