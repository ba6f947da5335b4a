"""`penstock dead`: dead letters, through a running agent and, when none runs, from the spool itself."""
import json
import re

import pytest

from harness import PENSTOCK, event, run, until

KEYS = ["id", "time", "reason", "status", "answer", "partition", "attempts", "event"]


def dead(agent, *args, offline=False):
    where = ["-c", str(agent.path)] if offline else ["--admin", f"http://127.0.0.1:{agent.admin_port}"]
    return run([PENSTOCK, "dead", *map(str, args), *where])


def letters(agent, **more):
    done = dead(agent, "list", "a", "--json", **more)
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


def with_letters(world, n=5):
    """An agent whose upstream has refused n events."""
    sink = world.sink()
    sink.respond("status=400")
    agent = world.agent({"a": sink.output()})
    agent.explain("output a: ")
    assert agent.post([event(i) for i in range(n)]).status == 202
    until(lambda: agent.ledger("a")["dead"] == n, "all are dead letters")
    return agent, sink


@pytest.mark.parametrize("offline", [False, True])
def test_list_show_replay_purge(world, offline):
    agent, sink = with_letters(world)
    if offline:
        agent.stop()
    found = letters(agent, offline=offline)
    assert [list(l) for l in found] == [KEYS] * 5
    assert [l["id"] for l in found] == sorted(l["id"] for l in found)
    found.sort(key=lambda l: l["event"]["data"]["n"])
    assert [l["event"]["data"]["n"] for l in found] == list(range(5))
    assert all(l["reason"] == "refused" and l["status"] == 400 and "as told by the rule" in l["answer"] for l in found)
    table = dead(agent, "list", "a", offline=offline).stdout.splitlines()
    assert table[0].split()[:3] == ["ID", "TIME", "REASON"] and len(table) == 6
    one = dead(agent, "show", "a", found[2]["id"], "--json", offline=offline)
    assert one.returncode == 0 and json.loads(one.stdout) == found[2]
    assert "refused" in dead(agent, "show", "a", found[2]["id"], offline=offline).stdout
    assert dead(agent, "show", "a", 999, offline=offline).returncode == 65
    sink.heal()
    done = dead(agent, "replay", "a", found[0]["id"], found[1]["id"], offline=offline)
    assert done.returncode == 0 and done.stdout == "2 replayed\n", done
    done = dead(agent, "purge", "a", found[2]["id"], 999, offline=offline)
    assert done.returncode == 65 and done.stdout == "1 purged\n", done
    if offline:
        done = run([PENSTOCK, "spool", "verify", "--json", str(agent.data_dir)])
        verdict = json.loads(done.stdout)
        assert done.returncode == 0 and (verdict["pending"], verdict["dead"], verdict["dropped"]) == (2, 2, 1)
        agent.start()
    agent.settled()
    assert sorted(sink.numbers()) == [0, 1]
    ledger = agent.ledger("a")
    assert (ledger["delivered"], ledger["dead"], ledger["dropped"]) == (2, 2, 1), ledger
    assert dead(agent, "replay", "a", "--all").stdout == "2 replayed\n"
    agent.settled()
    assert sorted(sink.numbers()) == [0, 1, 3, 4]
    assert letters(agent) == []


def test_many_letters_come_in_pages(world):
    agent, _ = with_letters(world, n=1300)
    found = letters(agent)
    assert sorted(l["event"]["data"]["n"] for l in found) == list(range(1300))
    assert dead(agent, "purge", "a", "--all").stdout == "1300 purged\n"
    assert agent.ledger("a")["dropped"] == 1300


def test_words_and_places_that_are_wrong(world):
    agent, _ = with_letters(world, n=1)
    assert dead(agent, "list", "b").returncode == 64
    assert dead(agent, "replay", "a").returncode == 64          # neither ids nor --all
    assert dead(agent, "purge", "a", "1", "--all").returncode == 64
    assert dead(agent, "show", "a", "one").returncode == 64
    assert dead(agent, "bury", "a").returncode == 64
    assert agent.admin("POST", "/outputs/a/dead/purge", b'{"ids":[]}').status == 200
    assert agent.admin("POST", "/outputs/a/dead/purge", b'{}').status == 400
    assert agent.admin("POST", "/outputs/a/dead/purge", b'{"ids":[1],"all":true}').status == 400
    assert agent.admin("GET", "/outputs/a/dead/purge").status == 400
    assert agent.ledger("a")["dead"] == 1
    # an agent whose admin does not answer has the lock
    agent.config["admin"]["listen"] = "127.0.0.1:1"
    agent.write_config()
    done = dead(agent, "list", "a", offline=True)
    assert done.returncode == 73 and str(agent.process.pid) in done.stderr
    agent.stop()
    assert dead(agent, "list", "a").returncode == 69
    assert dead(agent, "list", "b", offline=True).returncode == 64


def test_what_an_upstream_says_does_not_move_a_terminals_cursor(world):
    sink = world.sink()
    sink.respond("status=400,body=red \x1b[31m, cleared \x9b2J, deleted \x7f, käse")
    agent = world.agent({"a": sink.output()})
    agent.explain("output a: ")
    assert agent.post([event(1)]).status == 202
    until(lambda: agent.ledger("a")["dead"] == 1, "it is a dead letter")
    (letter,) = letters(agent)
    sink.heal()
    sink.respond("status=401,body=\x9b2J käse")
    assert agent.post([event(2)]).status == 202
    until(lambda: agent.status()["outputs"][0]["state"] == "held", "the output holds")
    status = run([PENSTOCK, "status", "--admin", f"http://127.0.0.1:{agent.admin_port}"])
    for done in (dead(agent, "list", "a"), dead(agent, "show", "a", letter["id"]), status):
        assert "2J" in done.stdout and "käse" in done.stdout, done
        assert not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f]", done.stdout), done
