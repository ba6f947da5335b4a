"""What is shipped beside the program fits it: configurations, units, alerts, the dashboard, the list of what is linked."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import textwrap

import pytest
from harness import PENSTOCK, ROOT, Process, event, run, until

CONF = sorted((ROOT / "conf").glob("*.yaml"))
MANIFESTS = sorted((ROOT / "packaging/kubernetes").glob("*.yaml"))
BUILD = pathlib.Path(PENSTOCK).resolve().parent


@pytest.fixture(scope="module")
def etc(tmp_path_factory):
    """A directory with the files that configurations refer to, and an environment with their variables."""
    etc = tmp_path_factory.mktemp("etc")
    done = run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
                "-subj", "/CN=localhost", "-keyout", str(etc / "tls.key"), "-out", str(etc / "tls.crt")])
    assert done.returncode == 0, done.stderr
    shutil.copy(etc / "tls.crt", etc / "ca.pem")
    for name in ("honeycomb-key", "admin-token", "input-token"):
        (etc / name).write_text("0123456789abcdef0123\n")
    return etc


def judge(path, etc):
    text = path.read_text()
    names = set(re.findall(r"\$\{env:(\w+)\}", text))
    env = {**os.environ, **{name: "0123456789abcdef0123" for name in names},
           "PENSTOCK_ETC": str(etc), "PENSTOCK_QUICKSTART_DIR": str(etc)}
    return run([PENSTOCK, "check", "-c", str(path)], env=env)


@pytest.mark.parametrize("path", CONF, ids=lambda p: p.name)
def test_every_configuration_is_good(path, etc):
    done = judge(path, etc)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_the_configuration_in_a_manifest_is_good(path, etc, tmp_path):
    block = re.search(r"^  penstock\.yaml: \|\n((?:    .*\n|\n)+)", path.read_text(), re.M).group(1)
    inner = tmp_path / "penstock.yaml"
    inner.write_text(textwrap.dedent(block).replace("/etc/penstock/secrets", str(etc)).replace("/run/penstock", str(tmp_path)))
    done = judge(inner, etc)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_a_manifest_is_whole(path):
    """What it mounts and selects is there; and it fits Kubernetes' own schemas, where something here has those."""
    yaml = pytest.importorskip("yaml", reason="not run: python3-yaml is not installed")
    documents = list(yaml.safe_load_all(path.read_text()))
    assert all({"apiVersion", "kind", "metadata"} <= set(d) and d["metadata"]["name"] for d in documents)
    maps = {d["metadata"]["name"] for d in documents if d["kind"] == "ConfigMap"}
    pods = [d["spec"] for d in documents if "template" in d.get("spec", {})]
    assert pods
    for spec in pods:
        pod, labels = spec["template"]["spec"], spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items()
        volumes = {v["name"] for v in pod["volumes"]} | {c["metadata"]["name"] for c in spec.get("volumeClaimTemplates", [])}
        containers = pod["containers"] + pod.get("initContainers", [])
        mounted = {m["name"] for c in containers for m in c["volumeMounts"]}
        assert mounted == volumes
        assert {v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v} <= maps
        penstock = next(c for c in containers if c["name"] == "penstock")
        assert penstock["securityContext"]["runAsNonRoot"] and penstock["securityContext"]["readOnlyRootFilesystem"]
        assert any(m["mountPath"] == "/var/lib/penstock" for m in penstock["volumeMounts"])
    for judge_it in (["kubeconform", "-strict"], ["kubernetes-validate", "--strict"]):
        if shutil.which(judge_it[0]):
            done = run([*judge_it, str(path)])
            assert done.returncode == 0, done


@pytest.fixture
def series(world):
    """Names of /metrics with the labels that each has, from an agent with every kind of input."""
    agent = world.agent({"up": world.sink().output("http")})
    assert agent.post([event(1)]).status == 202
    agent.settled()
    found = {}
    for name, labels in re.findall(r"^(penstock_\w+)(?:\{(.*?)\})? ", agent.admin("GET", "/metrics").body.decode(), re.M):
        at = found.setdefault(name, {})
        for label, value in re.findall(r'(\w+)="(.*?)"', labels):
            at.setdefault(label, set()).add(value)
    return found


def hold_to(series, where, expression):
    """Each series that an expression asks for is there, with the labels and the values that it asks for."""
    asked = re.findall(r"\b(penstock_\w+)(?:\{(.*?)\})?", expression)
    assert asked, (where, expression)
    for name, labels in asked:
        assert name in series, (where, name)
        for label, sign, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"(.*?)"', labels or ""):
            if label == "instance":
                continue
            assert label in series[name], (where, name, label)
            for one in value.split("|") if "~" in sign else [value]:
                assert one.startswith("$") or one in series[name][label], (where, name, label, one)


def test_alerts_ask_for_what_there_is(series):
    path = ROOT / "packaging/prometheus/penstock.rules.yml"
    expressions = re.findall(r"^ +expr: (.*)$", path.read_text(), re.M)
    assert len(expressions) > 8
    for expression in expressions:
        hold_to(series, path.name, expression)
    if shutil.which("promtool"):
        done = run(["promtool", "check", "rules", str(path)])
        assert done.returncode == 0, done


def test_the_dashboard_asks_for_what_there_is(series):
    board = json.loads((ROOT / "packaging/grafana/penstock.json").read_text())
    targets = [t["expr"] for p in board["panels"] for t in p["targets"]]
    assert len(targets) > 10
    for expression in targets:
        hold_to(series, "dashboard", expression)
    for variable in board["templating"]["list"][1:]:
        assert re.search(r"penstock_\w+", variable["query"]).group(0) in series


def test_the_metrics_are_what_prometheus_reads(world):
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")
    agent = world.agent({"up": world.sink().output("http")})
    done = subprocess.run(["promtool", "check", "metrics"], input=agent.admin("GET", "/metrics").body.decode(), text=True, capture_output=True, check=False)
    # Its style guide wants gauges without _total and counters with it; what it cannot parse is a fault.
    assert "error while linting" not in done.stderr and done.returncode in (0, 3), done


def test_the_unit_is_hardened():
    unit = ROOT / "systemd/penstock.service"
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    done = run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)])
    level = re.search(r"exposure level for penstock.service: ([\d.]+)", done.stdout)
    if level is None:
        pytest.skip(f"systemd-analyze does not judge files here: {done.stderr}")
    assert float(level.group(1)) <= 1.5, done.stdout


def test_the_socket_fits_the_configuration_that_it_names():
    text = (ROOT / "systemd/penstock.socket").read_text()
    name, path = re.search(r"^#\s+(\w+): \{ type: unix, path: (\S+) \}", text, re.M).groups()
    assert f"ListenStream={path}\n" in text and f"FileDescriptorName={name}\n" in text


def test_the_list_of_what_is_linked_is_the_program_s():
    spdx = BUILD / "share/doc/penstock/penstock.spdx"
    if not spdx.is_file() or not shutil.which("readelf"):
        pytest.skip(f"{spdx} or readelf is not there")
    done = run([str(ROOT / "tests/tools/compare_spdx"), str(spdx), PENSTOCK])
    assert done.returncode == 0, done.stdout + done.stderr


def is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return s.connect_ex(("127.0.0.1", port)) != 0


def test_the_quickstart_delivers_and_leaves_nothing(world):
    if not all(is_free(port) for port in (4380, 4390, 4400)):
        pytest.skip("something else listens on the quickstart's ports")
    quickstart = Process(world, "quickstart", [str(ROOT / "packaging/quickstart")],
                         env={"PENSTOCK": str(pathlib.Path(PENSTOCK).resolve()), "TMPDIR": str(world.dir)})
    until(lambda: "Each of the 1,000 events arrived once." in quickstart.out(), "the 1,000 events", 60)
    quickstart.signal(signal.SIGINT)
    assert quickstart.wait(60) == 0, quickstart.err()
    assert not list(world.dir.glob("penstock-quickstart.*"))
    assert all(is_free(port) for port in (4380, 4390, 4400))


README = (ROOT / "README.md").read_text()


def test_readme_names_only_what_there_is():
    named = set(re.findall(r"(?<![\w/.-])((?:conf|packaging|systemd|tests)/[\w./-]*\w)", README))
    assert len(named) > 12
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("block", re.findall(r"^```yaml\n(.*?)^```$", README, re.M | re.S))
def test_configurations_in_readme_are_good(block, etc, tmp_path):
    path = tmp_path / "penstock.yaml"
    path.write_text(re.sub(r"\$\{file:[^}]*\}", "${file:%s}" % (etc / "honeycomb-key"), block))
    done = judge(path, etc)
    assert (done.returncode, done.stderr) == (0, "")


def test_commands_in_readme_have_these_options():
    """tests/machine runs them; here each option is one that the command knows."""
    lines = re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S) + re.findall(r"`(penstock [^`]+)`", README)
    seen = 0
    for name, rest in re.findall(r"\bpenstock ([a-z]+)([^|&;\n#]*)", "\n".join(lines)):
        done = run([PENSTOCK, name, "--help"])
        assert done.returncode == 0, name
        for option in re.findall(r"(?<!\S)\[?(--?[a-z][\w-]*)", rest):
            assert re.search(rf"(^|[ ,|\[]){option}\b", done.stdout, re.M), (name, option)
            seen += 1
    assert seen > 5


@pytest.mark.parametrize("heading", ["Two commands", "A first configuration", "A systemd service", "A sidecar", "A relay"])
def test_blocks_that_are_run_elsewhere_are_shell(heading):
    done = run([str(ROOT / "tests/tools/readme_block"), heading])
    assert done.returncode == 0, done.stderr
    assert run(["bash", "-n"], input=done.stdout).returncode == 0
