"""kill -9 at any time: what was answered is delivered, each batch under one id with one content, and the ledger holds.

Senders keep their own record of what was answered; the sink keeps its own of what arrived, on a disk that the agent
does not own, written before it answers. PENSTOCK_KILL_ROUNDS changes the number of rounds, PENSTOCK_KILL_SEED
repeats a run's choices.
"""
import http.client
import json
import os
import random
import threading
import time

from harness import PATIENCE, Wire, event, until

ROUNDS = int(os.environ.get("PENSTOCK_KILL_ROUNDS", "60"))
SEED = int(os.environ.get("PENSTOCK_KILL_SEED", str(random.randrange(1 << 32))))


class Sender(threading.Thread):
    """Sends events with its own numbers, and notes a number once the answer that accepts it has been read."""

    def __init__(self, agent, base, seed):
        super().__init__(daemon=True)
        self.agent, self.rng, self.next = agent, random.Random(seed), base
        self.acknowledged, self.refused, self.offered = [], [], []
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            try:
                with Wire(self.agent.address, timeout=5) as w:
                    while not self.stopping.is_set():
                        self.send(w)
            except (OSError, AssertionError, http.client.HTTPException):
                self.stopping.wait(0.01)

    def send(self, w):
        numbers = list(range(self.next, self.next + self.rng.choice([1, 1, 2, 5, 20])))
        self.next += len(numbers)
        self.offered += numbers
        w.request("POST", "/events", json.dumps([event(n, size=self.rng.choice([0, 100, 3000])) for n in numbers]))
        reply = w.reply()
        if reply is None:
            raise ConnectionError
        if reply.status == 202:
            assert reply.json()["accepted"] == len(numbers)
            self.acknowledged += numbers
        elif reply.status == 429:
            self.refused += numbers
            self.stopping.wait(0.05)


class StreamSender(Sender):
    """The same over the Unix stream: lines, and a line that asks how many were accepted."""

    def run(self):
        while not self.stopping.is_set():
            try:
                with Wire(self.agent.socket_path, timeout=5) as w:
                    self.accepted_before = 0
                    while not self.stopping.is_set():
                        self.send(w)
            except (OSError, AssertionError):
                self.stopping.wait(0.01)

    def send(self, w):
        numbers = list(range(self.next, self.next + self.rng.choice([1, 5, 50])))
        self.next += len(numbers)
        self.offered += numbers
        w.say("".join(json.dumps(event(n)) + "\n" for n in numbers) + '{"penstock":"ack"}\n')
        line = w.line()
        if line is None:
            raise ConnectionError
        answer = json.loads(line)
        accepted, self.accepted_before = answer["accepted"] - self.accepted_before, answer["accepted"]
        assert answer["rejected"] == 0, answer
        assert accepted == len(numbers), answer
        self.acknowledged += numbers


def test_kill_9_loop(world):
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    sink = world.sink(tls=True, args=["--seed", str(SEED)])
    rules = ["", "status=503,chance=20", "hangup=before,chance=20", "hangup=in,chance=20", "delay=50ms", "status=503",
             "hangup=before,chance=50,times=20", "hangup=after,chance=30"]
    output = sink.output("http", batch={"max_events": 100, "max_wait": "5ms"}, retry={"initial": "10ms", "max": "100ms"},
                         spool={"max_bytes": "64MiB", "segment_bytes": "1MiB"})
    agent = world.agent({"up": output}, agent={"drain_timeout": "1s"}, start=False).explain("up", "drain", "recover")
    agent.socket_path = str(world.dir / "in.sock")
    agent.config["inputs"]["app"] = {"type": "unix", "path": agent.socket_path}
    agent.start()
    senders = [Sender(agent, 10_000_000, SEED), Sender(agent, 20_000_000, SEED + 1), StreamSender(agent, 30_000_000, SEED + 2)]
    for s in senders:
        s.start()
    slowest = 0.0
    try:
        for round_ in range(ROUNDS):
            rule = rng.choice(rules)
            sink.heal()
            if rule:
                sink.respond(rule)
            time_to_live = rng.choice([0.0, rng.uniform(0, 0.1), rng.uniform(0, 1.0)])
            senders[0].stopping.wait(time_to_live)
            if rng.random() < 0.1:
                agent.process.signal(15)
                agent.process.wait()
            else:
                agent.kill()
            if rng.random() < 0.2:  # and again while it starts
                agent.launch()
                senders[0].stopping.wait(rng.uniform(0, 0.05))
                agent.kill()
            begun = time.monotonic()
            agent.start(timeout=10)
            slowest = max(slowest, time.monotonic() - begun)
    finally:
        for s in senders:
            s.stopping.set()
    for s in senders:
        s.join(15)
    sink.heal()
    agent.settled(timeout=60)

    acknowledged = {n for s in senders for n in s.acknowledged}
    offered = {n for s in senders for n in s.offered}
    arrived = set(sink.numbers())
    assert all(s.acknowledged for s in senders), "a sender was never acknowledged: the test has shown nothing of it"
    assert acknowledged - arrived == set(), f"seed {SEED}: acknowledged and never delivered"
    assert arrived - offered == set(), f"seed {SEED}: delivered and never sent"
    refused = {n for s in senders for n in s.refused}
    assert refused & arrived == set(), f"seed {SEED}: refused and delivered all the same"
    stats = sink.check()   # the same id with other bytes is a violation
    assert stats["processed"] == stats["unique"], f"seed {SEED}: after deduplication an event counts twice: {stats}"
    agent.check_ledgers()
    ledger = agent.ledger("up")
    assert ledger["dead"] == 0 and ledger["dropped"] == 0 and ledger["delivered"] == ledger["accepted"]
    assert ledger["delivered"] == len(arrived), f"seed {SEED}: the ledger counts {ledger}, {len(arrived)} arrived"
    assert slowest < 3 * PATIENCE, f"a start took {slowest:.1f} s"
    print(f"{ROUNDS} rounds, {len(acknowledged)} acknowledged, {len(arrived)} arrived, "
          f"{stats['batches_repeated']} batches repeated, slowest start {slowest:.2f} s")
