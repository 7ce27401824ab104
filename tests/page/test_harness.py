"""A test of the page leaves no browser and no profile behind, however it ends."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bridge import Failed
from tests.support.browsers import PROGRAMS, running

pytestmark = pytest.mark.clients


def of_run(directory: Path) -> set[str]:
    """The processes whose temporary files are in this directory."""
    setting = f"TMPDIR={directory}/".encode()
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if setting in (process / "environ").read_bytes():
                found.add((process / "comm").read_text(encoding="utf-8").strip())
        except OSError:
            continue  # it has ended
    return found


@pytest.fixture(name="directory")
def fixture_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for all that the programs of a test keep."""
    # That of pytest is too long for the sockets of Chromium.
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


def is_clean(directory: Path) -> None:
    """Wait until no process and no file of the run is left."""
    end = time.monotonic() + 20
    while of_run(directory) or os.listdir(directory):
        assert time.monotonic() < end, (of_run(directory), os.listdir(directory))
        time.sleep(0.05)


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_failing_test(directory: Path, kind: str) -> None:
    """A test that fails while its tab is open leaves nothing."""
    with pytest.raises(ZeroDivisionError), running(kind) as browser, browser.profile() as profile:
        profile.tab()
        assert of_run(directory)
        raise ZeroDivisionError
    is_clean(directory)


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_browser_that_crashes(directory: Path, kind: str) -> None:
    """A browser that crashes fails its test at once, and leaves nothing."""
    begin = time.monotonic()
    with pytest.raises(Failed), running(kind) as browser, browser.profile() as profile:
        tab = profile.tab()
        os.kill(browser.pid, signal.SIGKILL)
        tab.js("() => new Promise(() => undefined)")
    assert time.monotonic() - begin < 60
    is_clean(directory)


@pytest.mark.parametrize("kind", PROGRAMS)
def test_without_a_home(directory: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No display is needed, nor a home that can be written."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("HOME", "/proc/1")
    with running(kind) as browser, browser.profile() as profile:
        assert profile.tab("data:text/html,hello").text() == "hello"
    is_clean(directory)
