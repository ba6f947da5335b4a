"""/metrics by the letter of the text format (prometheus.io, "Exposition formats", version 0.0.4), and what its numbers
promise: each series once, from the start; counters never fall, not over reloads and not over restarts."""
import math
import re
import time

from harness import event, until

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}

# The contract's names, with the labels that each has.
CONTRACT = {
    "penstock_events_received_total": ("counter", {"input"}),
    "penstock_events_rejected_total": ("counter", {"input", "reason"}),
    "penstock_events_sampled_total": ("counter", {"input"}),
    "penstock_bytes_in_total": ("counter", {"input"}),
    "penstock_events_accepted_total": ("counter", {"output"}),
    "penstock_events_pending": ("gauge", {"output"}),
    "penstock_events_delivered_total": ("counter", {"output"}),
    "penstock_events_dead": ("gauge", {"output"}),
    "penstock_events_dropped_total": ("counter", {"output", "reason"}),
    "penstock_events_dead_total": ("counter", {"output", "reason"}),
    "penstock_events_repeated_total": ("counter", {"output"}),
    "penstock_spool_bytes": ("gauge", {"output"}),
    "penstock_spool_oldest_seconds": ("gauge", {"output"}),
    "penstock_batches_total": ("counter", {"output", "result"}),
    "penstock_retries_total": ("counter", {"output"}),
    "penstock_request_seconds": ("histogram", {"output"}),
    "penstock_commit_seconds": ("histogram", {"output"}),
    "penstock_bytes_out_total": ("counter", {"output"}),
    "penstock_output_state": ("gauge", {"output", "state"}),
    "penstock_tls_not_after_seconds": ("gauge", {"output"}),
    "penstock_build_info": ("gauge", {"version"}),
}


class Malformed(AssertionError):
    pass


def demand(condition, line, why):
    if not condition:
        raise Malformed(f"{why}: {line!r}")


def read_labels(line, at):
    """From behind the brace: the labels, and where the closing brace stands."""
    labels = {}
    while line[at] != "}":
        name = LABEL.match(line, at)
        demand(name and line[name.end():name.end() + 2] == '="', line, "a label is NAME=\"VALUE\"")
        at, value = name.end() + 2, ""
        while line[at] != '"':
            if line[at] == "\\":
                demand(line[at + 1] in '\\"n', line, "only \\\\, \\\" and \\n are escapes")
                value += {"n": "\n"}.get(line[at + 1], line[at + 1])
                at += 2
            else:
                value += line[at]
                at += 1
        demand(name.group() not in labels, line, "a label twice")
        labels[name.group()] = value
        at += 1
        demand(line[at] in ",}", line, "a comma or the end behind a label")
        if line[at] == ",":
            at += 1
    return labels, at


class Exposition:
    """One answer of /metrics; Malformed when it is not to the letter."""

    def __init__(self, text):
        self.types, self.help, self.series = {}, {}, {}
        demand(text.endswith("\n"), text[-40:], "the last line ends with a line feed")
        family, seen = None, set()
        for line in text[:-1].split("\n"):
            demand(line == line.strip(" ") and "\r" not in line, line, "no space at the ends")
            if line.startswith("#"):
                family = self.comment(line, family, seen)
            else:
                self.sample(line, family)
        for name, kind in self.types.items():
            if kind == "histogram":
                self.histogram(name)

    def comment(self, line, family, seen):
        _, word, name, rest = line.split(" ", 3)
        demand(NAME.fullmatch(name), line, "a name")
        if word == "HELP":
            demand(name not in self.help, line, "HELP once")
            demand(rest and not re.search(r"\\[^\\n]", rest), line, "HELP is a sentence, escapes are \\\\ and \\n")
            demand(name not in seen, line, "a family stands together")
            seen.add(name)
            self.help[name] = rest
            return name
        demand(word == "TYPE" and rest in TYPES, line, "HELP or TYPE")
        demand(name not in self.types and name == family, line, "TYPE once, behind its HELP")
        self.types[name] = rest
        return name

    def sample(self, line, family):
        name = NAME.match(line)
        demand(name, line, "a sample begins with a name")
        at, labels = name.end(), {}
        if line[at] == "{":
            labels, at = read_labels(line, at + 1)
            at += 1
        demand(line[at] == " " and " " not in line[at + 1:], line, "one space, then the value")
        value = float(line[at + 1:])
        base = name.group()
        if self.types.get(family) == "histogram":
            base = re.sub(r"_(bucket|sum|count)$", "", base)
        demand(base == family, line, f"a sample stands with its family, this is {family}")
        demand(family in self.types, line, "TYPE before the samples")
        if self.types[family] == "counter":
            demand(family.endswith("_total"), line, "a counter's name ends with _total")
            demand(value >= 0 and value == int(value), line, "a counter counts")
        demand(not math.isnan(value), line, "a number")
        key = (name.group(), tuple(sorted(labels.items())))
        demand(key not in self.series, line, "a series twice")
        self.series[key] = value

    def histogram(self, name):
        groups = {}
        for (n, labels), value in self.series.items():
            if n.startswith(name + "_"):
                rest = tuple(l for l in labels if l[0] != "le")
                groups.setdefault(rest, {})[(n[len(name) + 1:], dict(labels).get("le"))] = value
        for rest, parts in groups.items():
            buckets = sorted((float(le), v) for (n, le), v in parts.items() if n == "bucket")
            demand(buckets and buckets[-1][0] == math.inf, name, "a bucket +Inf")
            demand(all(a[1] <= b[1] for a, b in zip(buckets, buckets[1:])), name, "buckets are cumulative")
            demand(parts[("count", None)] == buckets[-1][1], name, "_count is the bucket +Inf")
            demand(("sum", None) in parts, name, "_sum")

    def counters(self):
        return {key: v for key, v in self.series.items()
                if self.types.get(re.sub(r"_(bucket|sum|count)$", "", key[0])) == "histogram" or key[0].endswith("_total")}


def scrape(agent):
    reply = agent.admin("GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Exposition(reply.body.decode())


def never_fell(before, after, but=()):
    now = after.counters()
    for key, value in before.counters().items():
        if not any(dict(key[1]).get(k) == v for k, v in but):
            assert now[key] >= value, f"{key} fell from {value} to {now[key]}"


def test_the_names_and_labels_are_the_contracts(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http"), "other": sink.output("monk")}, routes=[{"to": ["up"]}],
                        inputs={"h": {"type": "http", "listen": "127.0.0.1:0"}, "u": {"type": "udp", "listen": "127.0.0.1:0"},
                                "s": {"type": "unix", "path": str(world.dir / "s")}})
    x = scrape(agent)
    for name, (kind, labels) in CONTRACT.items():
        assert x.types.get(name) == kind, name
        found = [dict(l) for n, l in x.series if re.sub(r"_(bucket|sum|count)$", "", n) == name or n == name]
        assert found, f"no series of {name}"
        for one in found:
            assert set(one) - {"le"} == labels, (name, one)
        for label, all_of in (("input", {"h", "u", "s"}), ("output", {"up", "other"})):
            if label in labels:
                assert {one[label] for one in found} == all_of, name
    for (name, labels), value in x.series.items():
        constant = name in ("penstock_spool_bytes", "penstock_build_info")
        expected = 1 if name == "penstock_output_state" and ("state", "ok") in labels else 0
        if not constant and "commit_seconds" not in name:
            assert value == expected, (name, labels, value)


def test_counters_never_fall(world):
    sink = world.sink()
    agent = world.agent({"up": sink.output("http"), "second": sink.output("http")}, routes=[{"to": ["up", "second"]}])
    last = scrape(agent)
    n = 0
    for turn in range(6):
        for _ in range(5):
            n += 1
            assert agent.post([event(n), event(10_000 + n)]).status == 202
        assert agent.request("POST", "/events", b"{oops", {"Content-Type": "application/json"}).status == 400
        now = scrape(agent)
        never_fell(last, now)
        last = now
        if turn == 1:
            agent.config["inputs"]["http"]["max_connections"] = 77
        elif turn == 2:
            agent.config["outputs"]["up"]["concurrency"] = 2
        elif turn == 3:
            agent.config["agent"]["name"] = "another"
        agent.write_config()
        assert agent.admin("POST", "/reload").status == 200
        now = scrape(agent)
        never_fell(last, now)
        last = now
    agent.settled()
    last = scrape(agent)
    agent.stop()
    agent.start()
    now = scrape(agent)
    for (name, labels), value in last.counters().items():
        if ("output", "up") in labels:
            assert now.series[(name, labels)] >= value, (name, labels)
    assert now.series[("penstock_events_accepted_total", (("output", "up"),))] == 60


def test_the_end_of_the_upstreams_certificate_is_told(world):
    sink = world.sink(tls=True)
    agent = world.agent({"up": sink.output("http")})
    assert scrape(agent).series[("penstock_tls_not_after_seconds", (("output", "up"),))] == 0
    agent.post(event(1))
    agent.settled()
    seen = until(lambda: scrape(agent).series[("penstock_tls_not_after_seconds", (("output", "up"),))], "it is told")
    assert seen > time.time(), "a moment in Unix time, still ahead"


def test_the_parser_itself_is_strict():
    good = '# HELP a_total b\n# TYPE a_total counter\na_total{x="\\\\\\"\\n"} 1\n'
    assert Exposition(good).series == {("a_total", (("x", '\\"\n'),)): 1.0}
    for bad in (good + 'a_total{x="\\\\\\"\\n"} 1\n', good.replace("# TYPE a_total counter\n", ""), good[:-1], good + good,
                good.replace("counter", "count"), good.replace(" 1", "  1"), good.replace("} 1", "} -1"),
                good.replace('\\n"', '\\t"'), good + "b_total 1\n"):
        try:
            Exposition(bad)
        except Malformed:
            continue
        raise AssertionError(f"taken: {bad!r}")
