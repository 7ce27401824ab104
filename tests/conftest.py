"""What every test gets: nothing may be left open, and on demand nothing may be skipped."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from wsgiref.validate import validator

import pytest
from webtest import TestApp

import ceph
from kinds import BucketKind

from wsgi_store.app import Application
from wsgi_store.config import Config

# Set by .ci/run: a missing program is a failure there, not a skip.
NO_SKIP = "TESTS_MUST_NOT_SKIP"
# What clients may see of a store is the same on a bucket; these do not look at files beside.
ON_A_BUCKET = {
    "test_api_digests",
    "test_api_download",
    "test_api_listing",
    "test_api_ranges",
    "test_api_upload",
}
# But these do, or at calls, or promise more than a bucket keeps.
ON_A_DISK = {"test_get", "test_raw_body", "test_removed_while_sent", "test_removed_before_sent"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Turn a skip into a failure where everything must run."""
    report = yield
    if os.environ.get(NO_SKIP) and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although {NO_SKIP} is set: {report.longrepr}"
    return report


def open_descriptors() -> dict[int, str]:
    """The descriptors of this process and what they are open on."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return found


def leaked_descriptors(before: dict[int, str]) -> dict[int, str]:
    """The files that are open now and were not then."""
    now = open_descriptors()
    return {fd: name for fd, name in now.items() if fd not in before and name.startswith("/")}


@pytest.fixture(autouse=True)
def no_leaked_descriptors() -> Iterator[None]:
    """No test leaves a file open that it opened."""
    before = open_descriptors()
    yield
    # Collecting takes as long as many a test, so only where something may be left to collect.
    if leaked_descriptors(before):
        gc.collect()
        assert not leaked_descriptors(before)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what a client may see of a store on a bucket too."""
    on_both = metafunc.module.__name__ in ON_A_BUCKET and metafunc.function.__name__ not in ON_A_DISK
    if on_both and "config" in metafunc.fixturenames:
        metafunc.parametrize("config", ["directory", "bucket"], indirect=True)


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """Settings for an empty store, in a directory if not said otherwise, that asks for no free space."""
    root = tmp_path / "store"
    if getattr(request, "param", None) == "bucket":
        ceph.ensure()
        return Config(root=BucketKind().url(root), s3_staging=str(root), min_free=0)
    return Config(root=str(root), min_free=0)


@pytest.fixture
def application(config: Config) -> Iterator[Application]:
    """A service on an empty store; whatever a test does, no staged file may be left."""
    application = Application(config)
    yield application
    assert not os.listdir(application.store.staging_directory)


@pytest.fixture
def api(application: Application) -> TestApp:
    """The service behind two judges of PEP 3333, WebTest's and the standard library's."""
    return TestApp(validator(application))
