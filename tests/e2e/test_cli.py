"""The command line: help with examples everywhere, exit codes, mistakes named with the nearest option."""
import pytest
from harness import PENSTOCK, free_port, run

COMMANDS = ["run", "check", "send", "status", "tap", "dead", "spool", "sink", "version"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", [["--help"], ["-h"]])
def test_help_on_everything_has_examples_and_exit_codes(command, form):
    done = run([PENSTOCK, command, *form])
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"usage: penstock {command}")
    assert "\nexamples:\n" in done.stdout and "\nexit codes: 0" in done.stdout and "--help" in done.stdout
    assert run([PENSTOCK, "help", command]).stdout == done.stdout


def test_help_of_the_program_names_every_command():
    for form in ("--help", "-h", "help"):
        done = run([PENSTOCK, form])
        assert done.returncode == 0
        for command in COMMANDS:
            assert f"\n  {command} " in done.stdout
    done = run([PENSTOCK])
    assert (done.returncode, done.stdout) == (64, "") and "usage: penstock" in done.stderr
    done = run([PENSTOCK, "statsu"])
    assert done.returncode == 64 and "the nearest one is status" in done.stderr
    assert run([PENSTOCK, "help", "nonesuch"]).returncode == 64
    assert run([PENSTOCK, "--version"]).stdout == run([PENSTOCK, "version"]).stdout != ""


MISTAKES = [
    (["run"], "-c FILE is needed"),
    (["run", "-c"], "--config needs a value"),
    (["run", "--confg", "x"], "the nearest one is --config"),
    (["run", "-c", "x", "y"], "unexpected 'y'"),
    (["check"], "-c FILE is needed"),
    (["check", "-z"], "unknown option -z"),
    (["status", "--jsno"], "the nearest one is --json"),
    (["status", "x"], "unexpected 'x'"),
    (["status", "--json=1"], "--json takes no value"),
    (["status", "--admin", "ftp://x"], "--admin: "),
    (["tap", "--limit", "0"], "--limit takes a count"),
    (["tap", "--limit", "many"], "--limit takes a count"),
    (["dead"], "one of list, show, replay and purge"),
    (["dead", "bury", "up"], "list, show, replay and purge"),
    (["dead", "list"], "OUTPUT is needed"),
    (["dead", "show", "up"], "show takes one ID"),
    (["dead", "show", "up", "x"], "an ID is a number"),
    (["dead", "replay", "up"], "either some IDs or --all"),
    (["dead", "purge", "up", "1", "--all"], "either some IDs or --all"),
    (["spool"], "verify or dump is needed"),
    (["spool", "repair", "/"], "not 'repair'"),
    (["spool", "verify"], "one DIR is needed"),
    (["spool", "verify", "--dead", "/"], "--dead to dump"),
    (["sink"], "--listen HOST:PORT is needed"),
    (["sink", "--listen", "nowhere"], "is not HOST:PORT"),
    (["send", "--url", "http://a", "--socket", "b"], "exclude each other"),
    (["send", "--retry-for", "soon"], "--retry-for takes seconds"),
    (["send", "--type", ""], "--type is empty"),
    (["send", "--token-file", "/no/such/file"], "/no/such/file"),
    (["version", "x"], "unexpected 'x'"),
]


@pytest.mark.parametrize("line, said", MISTAKES, ids=[" ".join(line) for line, _ in MISTAKES])
def test_a_mistaken_command_line_exits_64_and_says_why(line, said):
    done = run([PENSTOCK, *line])
    assert (done.returncode, done.stdout) == (64, "")
    assert said in done.stderr and done.stderr.startswith(f"penstock {line[0]}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["status"], ["tap"], ["dead", "list", "up"]])
def test_without_an_agent_69(command):
    done = run([PENSTOCK, *command, "--admin", f"127.0.0.1:{free_port()}"])
    assert (done.returncode, done.stdout) == (69, "")
    assert "cannot reach the agent at http://127.0.0.1:" in done.stderr
