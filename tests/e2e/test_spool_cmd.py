"""`penstock spool`: spools read offline, nothing changed."""
import json
import shutil

from harness import PENSTOCK, event, free_port, run


def spool(*args):
    return run([PENSTOCK, "spool", *map(str, args)])


def stopped(world, n=20):
    """An agent that was stopped with n events pending."""
    sink = world.sink()
    out = sink.output()
    out["endpoint"] = f"http://127.0.0.1:{free_port()}/in"
    agent = world.agent({"a": out}, agent={"drain_timeout": "100ms"})
    agent.explain("output a: ", "drain_timeout is over")
    assert agent.post([event(i, subject="käse") for i in range(n)]).status == 202
    return agent


def fingerprint(directory):
    return {p.relative_to(directory): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_in_use_then_sound(world):
    agent = stopped(world)
    done = spool("verify", agent.data_dir)
    assert done.returncode == 73 and str(agent.process.pid) in done.stderr, done
    assert spool("dump", agent.data_dir / "a").returncode == 73
    agent.stop()
    before = fingerprint(agent.data_dir / "a")
    for directory in (agent.data_dir, agent.data_dir / "a", f"{agent.data_dir}/a/"):
        done = spool("verify", directory)
        assert done.returncode == 0, done
        assert done.stdout.startswith("a: sound\n")
        assert "accepted 20 = pending 20 + delivered 0 + dead 0 + dropped 0" in done.stdout
    verdict = json.loads(spool("verify", "--json", agent.data_dir).stdout)
    assert verdict["pending"] == verdict["pending_found"] == 20 and verdict["sound"]
    assert fingerprint(agent.data_dir / "a") == before


def test_dump_is_ndjson(world):
    agent = stopped(world)
    agent.kill()
    done = spool("dump", agent.data_dir)
    assert done.returncode == 0, done
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["event"]["data"]["n"] for r in rows] == list(range(20))
    assert rows[0]["output"] == "a" and rows[0]["seq"] == 1 and rows[0]["event"]["subject"] == "käse"
    assert spool("dump", "--dead", agent.data_dir).stdout == ""


def test_a_copy_of_any_name_is_json_all_the_same(world):
    agent = stopped(world, 1)
    agent.stop()
    copies = world.dir / "copies"
    for name, shown in (('a "copy"', 'a "copy"'), ("a\nb", "a\nb"), ("caf\udce9", "caf\ufffd")):
        shutil.copytree(agent.data_dir / "a", copies / name)
        for command in (["verify", "--json"], ["dump"]):
            assert json.loads(spool(*command, copies).stdout)["output"] == shown
        shutil.rmtree(copies)


def test_damage_is_found_and_said(world):
    agent = stopped(world)
    agent.stop()
    mark = b'"n": 10}'
    files = sorted(p for p in (agent.data_dir / "a").rglob("*") if p.is_file() and mark in p.read_bytes())
    data = bytearray(files[0].read_bytes())
    at = data.index(mark)
    data[at] ^= 0xFF
    files[0].write_bytes(data)
    done = spool("verify", agent.data_dir)
    assert done.returncode == 65, done
    assert "DAMAGED" in done.stdout and "a: damaged: " in done.stderr
    agent.ledger_holds = False


def test_wrong_words(world):
    assert spool().returncode == 64
    assert spool("mend", world.dir).returncode == 64
    assert spool("verify", world.dir / "nowhere").returncode == 64
    done = spool("verify", "--help")
    assert done.returncode == 0 and "examples:" in done.stdout
