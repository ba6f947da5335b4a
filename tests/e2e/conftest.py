"""Fixtures of the end-to-end tests. See harness.py."""
import pathlib
import resource
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import harness  # noqa: E402


# Some tests hold a thousand connections, more descriptors than a login shell may have open by default.
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY and hard < 65536 else 65536, hard))


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, f"report_{call.when}", outcome.get_result())


@pytest.fixture
def world(request):
    """Everything that a test starts. A failed test's directory is kept and named."""
    directory = tempfile.mkdtemp(prefix="penstock-e2e-")
    w = harness.World(directory)
    failed = True
    try:
        yield w
        report = getattr(request.node, "report_call", None)
        failed = report is None or report.failed
        if not failed:
            failed = True
            w.examine()
            failed = False
    finally:
        w.close()
        if failed:
            for path in sorted(pathlib.Path(directory).glob("*.err")):
                text = path.read_text(errors="replace")
                if text:
                    print(f"--- {path}:\n{text[-3000:]}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
