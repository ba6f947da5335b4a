"""Which functions of an agent under callgrind its instructions went to."""
import re
import subprocess
import sys

LINE = re.compile(r"^ *([\d,]+)(?: \( *[\d.]+%\))? +(\S+?):(.+?)(?: \[([^\]]+)\])?$")
# On the stack when counting began: what they called is counted for them, too.
FRAMES = {"(below main)", "main", "run", "agent_run", "uv_run", "start_thread", "clone", "__libc_start_main@@GLIBC_2.34"}


def control(what, pid):
    """-z: counting begins anew; -d: what was counted is written."""
    done = subprocess.run(["callgrind_control", what, str(pid)], capture_output=True, text=True)
    if done.returncode != 0 or "OK" not in done.stdout:
        sys.exit(f"callgrind_control {what}: {done.stdout}{done.stderr}")


def inclusive(path):
    """{function: instructions, with those of what it calls}; the most of each, where inlined code splits it by file."""
    listing = subprocess.run(["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--auto=no", str(path)],
                             capture_output=True, text=True, check=True).stdout
    found = [match.groups() for match in map(LINE.match, listing.splitlines()) if match]
    return {name: int(count.replace(",", "")) for count, _, name, _ in reversed(found)}


def dump(path):
    """The total, and [(instructions, function)], most expensive first. The functions of a library without symbols
    count as the library; code that was inlined counts for the function that it became part of."""
    with open(path) as text:
        total = int(re.search(r"^(?:summary|totals): (\d+)", text.read(), re.M).group(1))
    listing = subprocess.run(["callgrind_annotate", "--threshold=100", "--auto=no", str(path)], capture_output=True,
                             text=True, check=True).stdout
    totals = {}
    for line in listing.splitlines():
        if not (found := LINE.match(line)):
            continue
        count, _, name, thing = found.groups()
        name = re.sub(r"\.(isra|constprop|part)\.\d+.*$|'\d+$", "", name)
        if name.startswith("0x"):
            name = (thing or "?").rsplit("/", 1)[-1].split(".so")[0]
        if name in FRAMES or name.startswith("ld-linux"):
            continue
        totals[name] = totals.get(name, 0) + int(count.replace(",", ""))
    return total, sorted(((count, name) for name, count in totals.items()), reverse=True)
