"""What tests/bench/run --page prints at its end: the tables of README.md, ready to be put there, and each goal with what was
measured."""

TITLES = {
    "http-1": "HTTP, 1 event a request",
    "http-100": "HTTP, 100 events a request",
    "http-1-20k/s": "HTTP, 1 event a request, 20,000/s",
    "udp": "UDP, 100,000/s",
    "udp-20k/s": "UDP, 20,000/s",
    "unix-1": "Unix stream, 1 event a write",
    "unix-1-20k/s": "Unix stream, 1 event a write, 20,000/s",
    "unix-64k": "Unix stream, 64 KiB writes",
    "forward-100": "forward protocol, packed, 100 a message",
    "drain": "delivery alone, from the log",
}
INSTRUCTIONS = {"http-1": 33_000, "http-100": 14_000, "forward-100": 14_000, "unix-1": 15_500, "unix-64k": 12_500,
                "udp": 14_700}
# Where commits are as large as senders make them: 100 events and an answer, or one event, are not full speed for a disk.
DISK_ROWS = ("http-100", "udp", "unix-1", "unix-64k")


def table(head, lines):
    print("\n| " + " | ".join(head) + " |\n| " + " | ".join("---" for _ in head) + " |")
    for line in lines:
        print("| " + " | ".join(line) + " |")


def show_rows(rows):
    table(("path", "events/s", "CPU", "limit", "times", "peak MiB", "disk, bytes per byte", "p50 / p99 ms"),
          [(TITLES[r["row"]], f"{r['per_s']:,.0f}", f"{r['cpu_us']:.2f}", f"{r['limit_us']:.2f}",
            f"{r['cpu_us'] / r['limit_us']:.2f}", f"{r['peak_mib']:.1f}", f"{r['disk']:.2f}",
            f"{r['p50_ms']:.2f} / {r['p99_ms']:.2f}" if r["p99_ms"] > 0 else "–") for r in rows])
    names = sorted({peer["peer"] for r in rows for peer in r["peers"]})
    if names:
        table(("path", *names),
              [(TITLES[r["row"]], *(f"{p['cpu_us']:.2f} ({p['cpu_us'] / r['cpu_us']:.1f})"
                                    + (f", {p['missing']:,} lost" if p["missing"] > 0 else "")
                                    for p in sorted(r["peers"], key=lambda p: p["peer"]))) for r in rows if r["peers"]])
    table(("path", "instructions", "where they go"),
          [(TITLES[r["row"]], f"{r['instructions']:,.0f}", ", ".join(f"{name} {n:.0f}" for n, name in r["functions"][:10]))
           for r in rows if "instructions" in r])


def goals(rows, small):
    """[(goal, at most, measured)] of what these rows can tell."""
    by = {r["row"]: r for r in rows}
    for name, most in INSTRUCTIONS.items():
        if "instructions" in by.get(name, {}):
            yield f"instructions, {TITLES[name]}", most, by[name]["instructions"]
    for r in rows:
        yield f"times the limit, {TITLES[r['row']]}", 1.4 if r["row"] == "drain" else 1.3, r["cpu_us"] / r["limit_us"]
        if r["peers"]:
            yield f"of the best peer's CPU, {TITLES[r['row']]}", 1 / 3, r["cpu_us"] / min(p["cpu_us"] for p in r["peers"])
    for slow, fast in (("udp-20k/s", "udp"), ("unix-1-20k/s", "unix-1")):
        if slow in by and fast in by:
            yield f"times full speed, {TITLES[slow]}", 2, by[slow]["cpu_us"] / by[fast]["cpu_us"]
    if "drain" in by:
        yield "instructions of delivery, times its parts'", 1.4, (by["drain"]["instructions"]
                                                                  / sum(by["drain"]["limit_instructions"].values()))
    if "http-1-20k/s" in by:
        r = by["http-1-20k/s"]
        yield f"p99 ms, {TITLES[r['row']]}, the sync's own being {r['sync_p99_ms']:.2f}", 2 + r["sync_p99_ms"], r["p99_ms"]
    yield "peak MiB of any row", 48, max(r["peak_mib"] for r in rows)
    if any(r["row"] in DISK_ROWS for r in rows):
        yield "bytes on disk per byte, at full speed", 1.15, max(r["disk"] for r in rows if r["row"] in DISK_ROWS)
    yield "MiB idle", 12, small["idle_mib"]
    yield "ms from start to READY", 100, small["ready_ms"]
    yield "bytes on disk per commit at a trickle", 4400, small["commit_bytes"]


def show(rows, small):
    show_rows(rows)
    table(("goal", "at most", "measured", ""),
          [(text, f"{most:,.4g}" if most < 1000 else f"{most:,}", f"{is_:,.3g}" if is_ < 1000 else f"{is_:,.0f}",
            "reached" if is_ <= most else f"missed, {is_ / most:.2f} times") for text, most, is_ in goals(rows, small)])
