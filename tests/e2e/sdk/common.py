"""common: what common.mjs is to the clients in JavaScript: how a script is told what to do, and says what it believes.

    python CLIENT.py ADDRESS COUNT

It sends COUNT events, each marked num-0, num-1, … in its payload, in small groups. It prints each number on a line of
its own once the client has been handed the event, waits before the second half until standard input says a line or
ends, lets the client flush, and prints {"sent":[…]}: the numbers that the client holds for sent.
"""
import json
import os
import re
import sys
import threading
import time

address, count = sys.argv[1], int(sys.argv[2])
GROUP, PAUSE_SECONDS = 5, 0.015
sent, lock = set(), threading.Lock()


def mark(n):
    return f"num-{n}"


def believe(what):
    """The client believes that these were sent: a number, or text or bytes that have marks in them."""
    if isinstance(what, (bytes, bytearray)):
        what = what.decode("latin-1")
    with lock:
        sent.update([what] if isinstance(what, int) else map(int, re.findall(r"num-(\d+)", what)))


def run(hand, group=lambda: None, end=lambda: None):
    """hand: gives one event to the client. group: after each small group. end: the client's own flush."""
    for n in range(count):
        if n == count // 2:
            sys.stdin.readline()
        hand(n)
        print(n, flush=True)
        if n % GROUP == GROUP - 1 or n == count - 1:
            group()
            time.sleep(PAUSE_SECONDS)
    end()
    with lock:
        print(json.dumps({"sent": sorted(sent)}), flush=True)
    os._exit(0)  # some clients' threads outlive them
