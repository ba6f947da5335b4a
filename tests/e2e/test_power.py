"""Power cuts on a real file system: ext4 (or xfs) on a loop image is shut down without writing its journal, while under load.

Everything that was not synced is gone then (EXT4_IOC_SHUTDOWN with the no-log-flush flag, linux/fs/ext4/ext4.h; XFS_IOC_GOINGDOWN has the same number),
which shows a missing sync of data or of a directory. It does not tear sectors. Needs root and a loop device.

The machine lives on while its file system dies, as it does not in a real cut, and a sync that is under way at that
moment may return without an error and without its data being there: a program that does nothing but write, sync and
note the time shows that, too (about half of such syncs; none of those that had returned before the call). So only
what was answered before the cut began is held against the agent, and only what the upstream had seen before it must
keep its identity.
PENSTOCK_POWER_ROUNDS changes the number of cuts, PENSTOCK_POWER_FS the file system.
"""
import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
import threading

import pytest
from harness import needs_root, run, until_released
from test_kill import Sender

ROUNDS = int(os.environ.get("PENSTOCK_POWER_ROUNDS", "20"))
FS = os.environ.get("PENSTOCK_POWER_FS", "ext4")
SIZE_MIB, MAKE = {"ext4": (96, ["-q", "-F"]), "xfs": (320, ["-q", "-f", "-K"])}[FS]
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2


class Disk:
    def __init__(self, world):
        self.image, self.mount = world.dir / "disk.img", world.dir / "mnt"
        self.mount.mkdir()
        with open(self.image, "wb") as f:
            f.truncate(SIZE_MIB << 20)
        for argv in ([f"mkfs.{FS}", *MAKE, str(self.image)], self.mount_command()):
            done = run(argv)
            if done.returncode != 0:
                pytest.skip(f"not run: shutdowns of {FS}: {argv[0]}: {done.stderr.strip()[:200]}")

    def mount_command(self):
        return ["mount", "-o", "loop", str(self.image), str(self.mount)]

    def cut(self):
        fd = os.open(self.mount, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def again(self):
        assert run(["umount", str(self.mount)]).returncode == 0
        until_released(self.image)
        done = run(self.mount_command())
        assert done.returncode == 0, done.stderr


def identity_is_kept(record, moments):
    """What the upstream saw outside the moments of the cuts comes again under the same id, if it comes again."""
    batches, at = {}, 0
    for line in record.splitlines(keepends=True):
        at += len(line)
        within_a_cut = any(begin < at <= end for begin, end in moments)
        seen = json.loads(line)
        n = seen["event"]["data"]["n"]
        if n in batches:
            assert batches[n] == seen["batch"], f"event {n} came as {batches[n]} and as {seen['batch']}"
        elif not within_a_cut:
            batches[n] = seen["batch"]
    assert batches, "nothing was sent: the test has shown nothing of identities"


@needs_root
@pytest.mark.skipif(shutil.which(f"mkfs.{FS}") is None, reason=f"not run: shutdowns of {FS}: no mkfs.{FS}")
def test_a_power_cut_loses_nothing_that_was_acknowledged(world):
    disk = Disk(world)
    rng = random.Random(1)
    sink = world.sink()
    output = sink.output("http", batch={"max_events": 50, "max_wait": "5ms"}, retry={"initial": "10ms", "max": "100ms"},
                         spool={"max_bytes": "48MiB", "segment_bytes": "1MiB"})
    try:
        agent = world.agent({"up": output}, data_dir=disk.mount / "data", start=False)
        agent.explain(".")  # whatever it says when its disk goes away under it
        senders, acknowledged, moments = [], set(), []
        for round_ in range(ROUNDS):
            sink.heal()
            sink.respond(rng.choice(["status=503,chance=10", "hangup=before,chance=30", "status=503"]))
            agent.start()
            sender = Sender(agent, 1_000_000 * (round_ + 1), round_)
            senders.append(sender)
            sender.start()
            threading.Event().wait(rng.uniform(0.05, 0.6))
            acknowledged.update(sender.acknowledged[:])
            seen_until = sink.out_path.stat().st_size
            disk.cut()
            agent.kill()
            sender.stopping.set()
            sender.join(10)
            disk.again()
            moments.append((seen_until, sink.out_path.stat().st_size))
        sink.heal()
        agent.start()
        agent.settled(timeout=60)
        offered = {n for s in senders for n in s.offered}
        arrived = set(sink.numbers())
        assert acknowledged, "nothing was acknowledged: the test has shown nothing"
        lost = sorted(acknowledged - arrived)
        assert lost == [], f"acknowledged and never delivered: {len(lost)}, {lost[:10]}; ledger {agent.ledger('up')}"
        assert arrived - offered == set(), "delivered and never sent"
        sink.check()  # the same id with other bytes is a violation
        identity_is_kept(sink.out_path.read_bytes(), moments)
        agent.check_ledgers()
        agent.stop()
        print(f"{ROUNDS} cuts, {len(acknowledged)} acknowledged")
    finally:
        for agent in world.agents:
            if agent.process is not None:
                agent.process.kill()
        subprocess.run(["umount", "-l", str(disk.mount)], check=False, capture_output=True)
