#!/usr/bin/python3
"""Holds the sources to the include arrows, and lib/ to doing no I/O of its own.

    base <- codec <- event <- api --+
    base <- spool ------------------+- output -+
    base <- http, tls, config ------+----------+- agent

Reads the #include lines of lib/ and agent/ and says, with file and line, which one goes the wrong way,
which files include each other in a circle, which header of the system has no business in lib/, which .c
file does not begin with its own header, and which include guard is not named after its path.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Whom a directory may include, besides itself.
ARROWS = {
    "lib/base": set(),
    "lib/codec": {"lib/base"},
    "lib/event": {"lib/base", "lib/codec"},
    "lib/api": {"lib/base", "lib/codec", "lib/event"},
    "lib/spool": {"lib/base"},
    "lib/http": {"lib/base"},
    "lib/tls": {"lib/base"},
    "lib/config": {"lib/base"},
    "lib/output": {"lib/base", "lib/codec", "lib/event", "lib/api", "lib/spool", "lib/http"},
}
ARROWS["agent"] = set(ARROWS)

# The cores get bytes, time and randomness from outside.
FORBIDDEN_IN_LIB = re.compile(
    r"uv\.h|uv/.*|unistd\.h|fcntl\.h|poll\.h|pthread\.h|netdb\.h|signal\.h|dirent\.h"
    r"|sys/(socket|un|epoll|select|poll|stat|mman|file|random|eventfd|time|wait)\.h")
CLOCKS_IN_LIB = re.compile(r"\b(clock_gettime|gettimeofday|time|clock|getrandom|rand|random)\s*\(")

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def without_comments(text):
    """The same text, of the same lines, with comments and string literals blanked (but not #include lines)."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    text = re.sub(r"/\*.*?\*/|//[^\n]*", blank, text, flags=re.S)
    return "\n".join(line if INCLUDE.match(line) else re.sub(r'"(\\.|[^"\\])*"', '""', line)
                     for line in text.split("\n"))


def directory_of(path):
    parts = path.split("/")
    return "agent" if parts[0] == "agent" else "/".join(parts[:2])


def check_include(faults, where, source, kind, target):
    here = directory_of(source)
    if kind == "<":
        if here != "agent" and FORBIDDEN_IN_LIB.fullmatch(target):
            faults.append(f"{where}: <{target}> in lib/: cores do no I/O")
        return
    there = directory_of(target)
    if not (ROOT / target).is_file():
        faults.append(f'{where}: "{target}" is not a path from the root')
    elif there != here and there not in ARROWS.get(here, set()):
        faults.append(f"{where}: {here} may not include {there} ({target})")


def check_file(faults, graph, path):
    source = str(path.relative_to(ROOT))
    if directory_of(source) not in ARROWS:
        faults.append(f"{source}:1: {directory_of(source)} is not in the diagram of {__file__}")
        return
    text = without_comments(path.read_text(encoding="utf-8"))
    first, edges = None, set()
    for number, line in enumerate(text.split("\n"), 1):
        match = INCLUDE.match(line)
        where = f"{source}:{number}"
        if match:
            kind, target = match.groups()
            first = first or target
            check_include(faults, where, source, kind, target)
            if kind == '"':
                edges.add(target)
        elif source.startswith("lib/") and CLOCKS_IN_LIB.search(line):
            faults.append(f"{where}: {CLOCKS_IN_LIB.search(line).group(1)}() in lib/: time and chance come from outside")
    graph[source] = edges
    own = source[:-1] + "h"
    if source.endswith(".c") and (ROOT / own).is_file() and first != own:
        faults.append(f'{source}:1: the first include must be its own "{own}"')
    if source.endswith(".h"):
        inner = source[4:] if source.startswith("lib/") else source
        guard = "PENSTOCK_" + re.sub(r"[^A-Z0-9]", "_", inner.upper())
        if f"#ifndef {guard}\n#define {guard}\n" not in text:
            faults.append(f"{source}:1: the include guard should be {guard}")


def find_cycles(graph):
    """One line for each circle of headers, found by walking depth first."""
    faults, state = [], {}

    def walk(node, path):
        state[node] = "open"
        for target in sorted(graph.get(node, ())):
            if state.get(target) == "open":
                circle = path[path.index(target):] + [target]
                faults.append(f"{node}:1: circle of includes: {' -> '.join(circle)}")
            elif target not in state:
                walk(target, path + [target])
        state[node] = "done"

    for node in sorted(graph):
        if node not in state:
            walk(node, [node])
    return faults


def main():
    faults, graph = [], {}
    for top in ("lib", "agent"):
        for path in sorted((ROOT / top).rglob("*.[ch]")):
            check_file(faults, graph, path)
    faults += find_cycles(graph)
    for fault in faults:
        print(fault)
    print(f"check_includes: {len(graph)} files, {len(faults)} faults")
    return 1 if faults or not graph else 0


if __name__ == "__main__":
    sys.exit(main())
