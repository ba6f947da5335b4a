"""What the benchmarks share: children that are measured by /proc and ended by their pid, ports, and waiting."""
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def free_udp_port():
    return free_port(socket.SOCK_DGRAM)


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            return what()
        except OSError:
            time.sleep(0.02)
    sys.exit("bench: a server did not start (see the log)")


def wait_for_port(port):
    wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close())


class Process:
    """A child that is measured by /proc and ended by its pid."""

    def __init__(self, command, log, environment=None):
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self.pid = self.child.pid

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def status_mib(self, field):
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+)", text).group(1)) / 1024

    def peak_mib(self):
        return self.status_mib("VmHWM")

    def resident_mib(self):
        return self.status_mib("VmRSS")

    def written(self):
        text = pathlib.Path(f"/proc/{self.pid}/io").read_text()
        return int(re.search(r"write_bytes: (\d+)", text).group(1))

    def stop(self, seconds=60):
        self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()
