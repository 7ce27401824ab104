"""Shared fixtures and hooks: no test may leave a file open, and on demand none may be skipped."""

import gc
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from wsgiref.validate import validator

import pytest
from execnet import XSpec
from hypothesis import HealthCheck, is_hypothesis_test, settings
from webtest import TestApp

from tests.support import ceph
from tests.support.access import Make, maker
from tests.support.commands import COUNTING
from tests.support.kinds import BucketKind
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.logs import PACKAGE, logger
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Store
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.web.application import Application

# Tests read the log, so enable it as a host would.
logger.enable(PACKAGE)
# Set by .ci/run: there, a missing program is a failure instead of a skip.
NO_SKIP = "TESTS_MUST_NOT_SKIP"

# Tests of the contract that `make races` runs: processes that meet, and all that runs with sha256 as well.
# The suite belongs to the package, and knows nothing of these targets.
OFTEN = re.compile(r"contract/test_contract\.py.*(test_processes_|[-\[]md5)")

# `make test` tries few random examples, `make races` many.
for profile, examples in (("few", 50), ("many", 200)):
    settings.register_profile(
        profile,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
settings.load_profile("few")

# A background job of a shell ignores these signals, and child processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def pytest_xdist_setupnodes(specs: list[XSpec]) -> None:
    """Run the worker processes of xdist with the flags of the main process."""
    flags = ["-X", "dev"] if sys.flags.dev_mode else []
    flags += [f"-W{option}" for option in sys.warnoptions]
    for spec in specs:
        spec.python = shlex.join([sys.executable, *flags])


@pytest.hookimpl(tryfirst=True)  # before marks select tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes long for `make races`, and start the longest files first.

    A file that is started last would run alone at the end.
    """
    for item in items:
        on_bucket = "[bucket" in item.nodeid
        # Hypothesis sets its mark later than now.
        random = item.get_closest_marker("hypothesis") or is_hypothesis_test(getattr(item, "obj", None))
        # On a bucket, where everything is many requests, also random examples, and threads that meet.
        if OFTEN.search(item.nodeid) or (on_bucket and (random or "_at_once" in item.name)):
            item.add_marker(pytest.mark.races)

    def seconds(item: pytest.Item) -> float:
        long = item.get_closest_marker("long")
        return long.args[0] if long else 0

    items.sort(key=seconds, reverse=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Make reports sendable, and turn skips into failures if nothing may be skipped."""
    report = yield
    # Captured text may contain surrogates, which xdist cannot send.
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    if os.environ.get(NO_SKIP) and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although {NO_SKIP} is set: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Measure no coverage in child processes whose time, memory or system calls a test measures."""
    taken = {}
    if any(item.iter_markers("alone")) or any(item.iter_markers("uncounted")):
        taken = {name: os.environ.pop(name) for name in COUNTING if name in os.environ}
    try:
        return (yield)
    finally:
        os.environ.update(taken)


# The completed tests, in this process and in the workers.
finished: set[str] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember each completed test."""
    if report.when == "teardown":
        finished.add(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail if a test was not run, because xdist ignores a worker that ends with an internal error."""
    missing = session.testscollected - len(finished)
    beside = hasattr(session.config, "workerinput")
    if exitstatus == pytest.ExitCode.OK and missing and not beside and not session.config.option.collectonly:
        reason = f"{missing} of {session.testscollected} tests were not run"
        pytest.exit(reason, returncode=pytest.ExitCode.INTERNAL_ERROR)


def open_descriptors() -> dict[int, str]:
    """The open descriptors of this process, with their files."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return found


def leaked_descriptors(before: dict[int, str]) -> dict[int, str]:
    """The files opened since then and still open."""
    now = open_descriptors()
    return {fd: name for fd, name in now.items() if fd not in before and name.startswith("/")}


@pytest.fixture(autouse=True)
def no_leaked_descriptors() -> Iterator[None]:
    """Each test closes the files that it opened."""
    before = open_descriptors()
    yield
    # Garbage collection is slow, so it runs only if a file is still open.
    if leaked_descriptors(before):
        gc.collect()
        assert not leaked_descriptors(before)


@pytest.fixture(autouse=True)
def no_blocked_signals() -> Iterator[None]:
    """Each test leaves the signal mask as it was: programs that later tests start would inherit it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests marked `every_store` on a directory and on a bucket."""
    markers = {marker.name for marker in metafunc.definition.iter_markers()}
    if "every_store" in markers and "on_disk" not in markers and "config" in metafunc.fixturenames:
        metafunc.parametrize("config", ["directory", "bucket"], indirect=True)


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path) -> Path:
    """The directory of the store."""
    return tmp_path / "store"


@pytest.fixture(name="store")
def fixture_store(root: Path) -> LocalStore:
    """An empty store on a local disk."""
    return LocalStore(str(root), Algorithm.MD5)


@pytest.fixture(name="staging")
def fixture_staging(store: Store) -> Staging:
    """The staging area of the store."""
    return Staging(store)


@pytest.fixture
def config(request: pytest.FixtureRequest, root: Path) -> Config:
    """Settings for an empty store without a free-space limit, in a directory or a bucket."""
    if getattr(request, "param", None) == "bucket":
        ceph.ensure()
        return Config(root=BucketKind().url(root), s3_staging=str(root), min_free=0)
    return Config(root=str(root), min_free=0)


@pytest.fixture
def application(config: Config) -> Iterator[Application]:
    """A service on an empty store; after each test no staged file is left."""
    application = create_app(config)
    yield application
    assert not os.listdir(application.store.staging_directory)


@pytest.fixture
def api(application: Application) -> TestApp:
    """The service, checked against PEP 3333 by WebTest and by the standard library."""
    return TestApp(validator(application))


@pytest.fixture(name="make")
def fixture_make(config: Config, tmp_path: Path) -> Make:
    """A factory of services with tokens."""
    return maker(config, tmp_path / "tokens")
