"""The manual pages and the completions of shells say what the program does: its commands, its options, its keys."""
import pathlib
import re
import shutil
import subprocess

import pytest
from harness import PENSTOCK, ROOT, run

SHARE = pathlib.Path(PENSTOCK).resolve().parent / "share"
COMMANDS = re.findall(r"^  (\w+) ", re.search(r"commands:\n(.*?)\n\n", run([PENSTOCK, "--help"]).stdout, re.S).group(1), re.M)


def share(path):
    """A file that the build wrote; a program that came without its pages is not held to them."""
    if not SHARE.is_dir():
        pytest.skip(f"{SHARE} is not there")
    return SHARE / path


def options_of(command):
    """What --help lists at the beginning of a line."""
    text = run([PENSTOCK, command, "--help"]).stdout
    heads = re.findall(r"^  (-.*?)(?:  |$)", text, re.M)
    return {name for head in heads for name in re.findall(r"(?<!\S)--?[a-z][a-z-]*", head)}


def plain(path):
    """A page's source as text: without its escapes."""
    return re.sub(r"\\f.|\\&", "", path.read_text()).replace("\\-", "-")


def section(command):
    return re.search(rf"^\.SS penstock {command}\n(.*?)(?=^\.S[SH])", plain(share("man/man1/penstock.1")), re.S | re.M).group(1)


def test_there_are_nine_commands():
    assert COMMANDS == ["run", "check", "send", "status", "tap", "dead", "spool", "sink", "version"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_has_every_line_of_help(command):
    page = section(command)
    for option in options_of(command) - {"-h", "--help"}:
        assert re.search(rf"(?<!\S){option}(?!\S*\w)", page), option
    assert f"penstock {command}" in page


def complete_bash(words):
    script = share("bash-completion/completions/penstock")
    quoted = " ".join(f"'{w}'" for w in words)
    done = run(["bash", "-c", f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _penstock; "
                              'printf "%s\\n" "${COMPREPLY[@]}"'])
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes(tmp_path):
    assert complete_bash(["penstock", ""]) == set(COMMANDS) | {"--help"}
    for command in COMMANDS:
        offered = complete_bash(["penstock", command, "-"])
        assert options_of(command) <= offered, command
        assert "--help" in offered
    assert complete_bash(["penstock", "dead", "re"]) == {"replay"}
    assert "monk" in complete_bash(["penstock", "sink", "--api", ""])
    (tmp_path / "some.yaml").write_text("")
    assert complete_bash(["penstock", "run", "-c", f"{tmp_path}/so"]) == {f"{tmp_path}/some.yaml"}


@pytest.mark.parametrize("shell,path", [("zsh", "zsh/vendor-completions/_penstock"),
                                        ("fish", "fish/vendor_completions.d/penstock.fish")])
def test_other_shells_have_every_option(shell, path):
    text = share(path).read_text()
    for command in COMMANDS:
        part = text if shell == "zsh" else "\n".join(line for line in text.split("\n") if command in line)
        for option in options_of(command) - {"-h"}:
            form = option if shell == "zsh" else f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            assert form in part, (command, option)
    if shutil.which(shell):
        done = run([shell, "-n", str(share(path))])
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", ["man1/penstock.1", "man5/penstock.yaml.5"])
def test_a_page_is_sound(page):
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")
    with open(share(f"man/{page}"), "rb") as text:
        done = subprocess.run(["groff", "-man", "-ww", "-z", "-rCHECKSTYLE=0"], stdin=text, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_page_has_every_key_of_the_table():
    page = plain(share("man/man5/penstock.yaml.5"))
    listed = re.findall(r"^(\S+) \(", page, re.M)
    last = {name.split(".")[-1] for name in listed}
    for table in ("schema_agent.c", "schema_output.c"):
        for name, kind in re.findall(r'^ +\{"(\w+)", SCHEMA_(\w+)', (ROOT / "lib/config" / table).read_text(), re.M):
            assert kind == "SECTION" or name in last, (table, name)
    assert len(listed) > 100


def test_check_knows_every_key_of_the_page(tmp_path):
    """Each key, alone and with a value that no key takes: whatever is wrong with it, it is not unknown."""
    page = plain(share("man/man5/penstock.yaml.5"))
    path = tmp_path / "one.yaml"
    for name, body in re.findall(r"^\.SS (\w+).*?\n(.*?)(?=^\.S[SH])", page[page.index(".SH KEYS"):], re.S | re.M):
        for key, text in re.findall(r"^(\S+) \(.*?\)\n(.*?)(?=^\.TP|\Z)", body, re.S | re.M):
            kind = re.search(r"Of type (\w+)", text)
            lines = [f"{'  ' * (depth + 2)}{part}:" for depth, part in enumerate(key.split("."))]
            if kind and key != "type":
                lines.insert(0, f"    type: {kind.group(1)}")
            above = {"inputs": ["  it:"], "outputs": ["  it:"], "routes": ["  -"]}.get(name, [])
            path.write_text("\n".join([f"{name}:", *above, *lines]) + " [[wrong]]\n")
            done = run([PENSTOCK, "check", "-c", str(path)])
            assert done.returncode == 78, (key, done)
            assert "unknown" not in done.stderr and "no key" not in done.stderr, (name, key, done.stderr)
