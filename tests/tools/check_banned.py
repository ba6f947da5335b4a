#!/usr/bin/python3
"""Says, with file and line, where a banned function is called or something was left for later.

Banned in all C: functions that write without a bound, that parse numbers without saying so when they fail,
that keep hidden state, or that take their size from the stack. Banned in tests: sleeping to be safe; a test
waits for the event, with a deadline.
"""
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from check_includes import ROOT, without_comments  # noqa: E402

BANNED = re.compile(r"\b(strcpy|strcat|sprintf|vsprintf|strtok|gets|atoi|atol|atoll|atof|strncpy|strncat|alloca"
                    r"|tmpnam|mktemp|asctime|ctime|gmtime|localtime)\s*\(")
SLEEP_C = re.compile(r"\b(sleep|usleep|nanosleep|uv_sleep)\s*\(")
SLEEP_PY = re.compile(r"\btime\.sleep\s*\(")
# Spelled so that this file does not find itself.
LATER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
TEXT = {".c", ".h", ".py", ".sh", ".cmake", ".txt", ".md", ".yaml", ".yml", ".service", ".socket", ".html", ""}


def tracked_files():
    out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                         capture_output=True, check=False)
    if out.returncode == 0:
        return [ROOT / name for name in out.stdout.decode().split("\0") if name]
    return [p for p in ROOT.rglob("*") if p.is_file() and not any(
        part.startswith(("build", ".git")) for part in p.relative_to(ROOT).parts)]


def check_c(faults, path, name, text):
    for number, line in enumerate(without_comments(text).split("\n"), 1):
        for match in BANNED.finditer(line):
            faults.append(f"{name}:{number}: {match.group(1)}() is banned")
        if name.startswith("tests/") and not name.startswith("tests/bench/") and SLEEP_C.search(line):
            faults.append(f"{name}:{number}: a test does not sleep, it waits for the event")
        if name.startswith("agent/") and re.search(r"\b(sleep|usleep)\s*\(", line):
            faults.append(f"{name}:{number}: sleep in the agent")


def main():
    faults, count = [], 0
    for path in sorted(tracked_files()):
        if path.suffix not in TEXT or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        count += 1
        name = str(path.relative_to(ROOT))
        if path.suffix in (".c", ".h"):
            check_c(faults, path, name, text)
        for number, line in enumerate(text.split("\n"), 1):
            if LATER.search(line):
                faults.append(f"{name}:{number}: left for later: {line.strip()[:80]}")
            if path.suffix == ".py" and path.name.startswith("test_") and SLEEP_PY.search(line):
                faults.append(f"{name}:{number}: a test does not sleep, it waits for the event")
    for fault in faults:
        print(fault)
    print(f"check_banned: {count} files, {len(faults)} faults")
    return 1 if faults or not count else 0


if __name__ == "__main__":
    sys.exit(main())
