"""The peers that Penstock is compared with: rsyslog and syslog-ng as Debian packages them.

Their packages are fetched with apt into build/bench/peers and unpacked there, since the two cannot be installed
beside each other. Each is run with the configuration beside this file, its best that survives a kill, and forwards
over TLS to drain.py. What they do not do, and Penstock does in the same row: a sync before the answer, JSON validated,
an id per event, an answer at all.
"""
import os
import pathlib
import struct
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import processes  # noqa: E402

PACKAGES = {
    "rsyslog": ["rsyslog", "rsyslog-openssl", "libestr0", "libfastjson4", "liblognorm5"],
    "syslog-ng": ["syslog-ng-core", "libivykis0", "libnet1", "libwrap0", "libjson-c5", "libpcre3"],
}
DRIVERS = ("unix", "udp")


def install(into):
    """Unpacks the packages below `into`, once. Returns why that was not possible, or None."""
    for peer, packages in PACKAGES.items():
        root = into / peer
        if (root / "usr").is_dir():
            continue
        debs = into / "debs" / peer
        debs.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["apt-get", "download", *packages], cwd=debs, capture_output=True, text=True)
        if done.returncode != 0:
            return f"apt-get download {' '.join(packages)}: {done.stderr.strip().splitlines()[-1]}"
        for deb in debs.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(deb), str(root)], check=True)
    return None


class Peer:
    """One peer between a Unix socket or UDP port and the drain, in a directory of its own."""

    def __init__(self, name, root, directory, driver, certificate):
        self.dir = pathlib.Path(directory)
        (self.dir / "queue").mkdir()
        self.driver = driver
        self.log = open(self.dir / "log", "wb")
        self.port = processes.free_port() if driver == "unix" else processes.free_udp_port()
        drain_port = processes.free_port()
        self.drain = processes.Process([sys.executable, str(HERE / "drain.py"), str(drain_port), certificate["cert"],
                                        certificate["key"], str(self.dir / "count")], self.log)
        processes.wait_for_port(drain_port)
        config = (HERE / f"{name}.conf").read_text()
        for word, value in (("DIR", str(self.dir)), ("CA", certificate["ca"]), ("DRAIN", str(drain_port)),
                            ("INPUT", getattr(self, name.replace("-", "_") + "_input")())):
            config = config.replace(f"@{word}@", value)
        (self.dir / "conf").write_text(config)
        usr = root / name / "usr"
        libraries = [usr / "lib/x86_64-linux-gnu", usr / "lib/syslog-ng", root / name / "lib/x86_64-linux-gnu"]
        environment = dict(os.environ, LD_LIBRARY_PATH=":".join(map(str, libraries)))
        if name == "rsyslog":
            command = [usr / "sbin/rsyslogd", "-n", "-f", self.dir / "conf", "-i", self.dir / "pid", "-M",
                       usr / "lib/x86_64-linux-gnu/rsyslog"]
        else:
            command = [usr / "sbin/syslog-ng", "-F", "--no-caps", "-f", self.dir / "conf", "-p", self.dir / "pid",
                       "-R", self.dir / "persist", "-c", self.dir / "control",
                       f"--module-path={next((usr / 'lib/syslog-ng').glob('3.*'))}"]
        self.process = processes.Process([str(word) for word in command], self.log, environment)
        processes.wait_for(self.listens)

    def listens(self):
        if self.driver == "unix":
            if not (self.dir / "unix.sock").exists():
                raise OSError
        elif f":{self.port:04X} " not in pathlib.Path("/proc/net/udp").read_text():
            raise OSError

    def rsyslog_input(self):
        if self.driver == "unix":
            return f'input(type="imptcp" path="{self.dir}/unix.sock" ruleset="up")'
        return f'input(type="imudp" address="127.0.0.1" port="{self.port}" rcvbufSize="16m" ruleset="up")'

    def syslog_ng_input(self):
        if self.driver == "unix":
            return f'unix-stream("{self.dir}/unix.sock" flags(no-parse) log-msg-size(65536) log-iw-size(20000));'
        return (f'network(ip("127.0.0.1") port({self.port}) transport("udp") flags(no-parse) log-msg-size(65536) '
                "so-rcvbuf(16777216) log-iw-size(20000) log-fetch-limit(1000))")  + ";"

    def where(self):
        return str(self.dir / "unix.sock") if self.driver == "unix" else f"127.0.0.1:{self.port}"

    def count(self):
        return struct.unpack("<Q", (self.dir / "count").read_bytes())[0]

    def settle(self, lines, quiet_s=5):
        """Waits until the drain has `lines`, or nothing more comes; returns what it has."""
        have, since = self.count(), time.monotonic()
        while have < lines and time.monotonic() - since < quiet_s:
            time.sleep(0.05)
            now = self.count()
            if now != have:
                have, since = now, time.monotonic()
        return have

    def stop(self):
        self.process.stop(10)
        self.drain.stop(5)
        self.log.close()
