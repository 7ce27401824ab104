"""A process killed at each of its system calls in turn loses no blob and leaves no partial one."""

import compileall
import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import wsgi_store
from tests.support.kinds import KINDS, LocalKind, content, put
from tests.support.tracing import SUPPORT, Trace, uploader
from wsgi_store.digest import Algorithm
from wsgi_store.staging import Receipt
from wsgi_store.store.contract import Durability

# Coverage opens files, too.
pytestmark = [pytest.mark.races, pytest.mark.uncounted]
DATA = b"some bytes"
# Verbs, and the blobs in the store after each answer: first that of the opening, then the verbs'.
PLAIN = ("add", "add", "remove"), [[], [], [DATA], [DATA], []]
HEALING = (
    ("add", "cut", "add", "cut", "quarantine", "add", "remove"),
    [[], [], [DATA], [DATA[:1]], [DATA], [DATA[:1]], [], [DATA], []],
)


@pytest.fixture(autouse=True, scope="module")
def _compiled() -> None:
    """Compile all modules first, because compiling them later would change the calls of a process."""
    for directory in (Path(wsgi_store.__file__).parent, SUPPORT):
        assert compileall.compile_dir(directory, quiet=1)


def run(
    directory: Path, kind: LocalKind, steps: tuple[str, ...], *inject: str
) -> tuple[int, int, list[tuple[str, str]]]:
    """Do the steps in a process; returns its exit status, the number of its answers, and its calls."""
    directory.mkdir()
    trace = Trace(directory / "trace", directory / "store")
    # Imports list a directory again if others write to it meanwhile, as to that of the project.
    project = directory / "project"
    project.mkdir()
    (project / "wsgi_store").symlink_to(Path(wsgi_store.__file__).parent)
    command, environ = uploader(trace.root, kind, Durability.FULL, *steps, project=project)
    before = trace.command(*(f"--inject={call}" for call in inject))
    done = subprocess.run([*before, *command], env=environ, check=False, capture_output=True, timeout=60)
    (text,) = trace.texts()
    return done.returncode, done.stdout.count(b"\n"), list(trace.events(text))


def whole(directory: Path, kind: LocalKind, steps: tuple[str, ...]) -> list[tuple[str, str]]:
    """The calls of a process that is not killed."""
    calls: list[tuple[str, str]] = []
    # Imports list a directory again after others wrote to it, so wait for two runs with the same calls.
    for attempt in range(5):
        before = calls
        status, answers, calls = run(directory / f"whole-{attempt}", kind, steps)
        assert (status, answers) == (0, len(steps) + 1)
        if calls == before:
            break
    return calls


def kills(directory: Path, kind: LocalKind, steps: tuple[str, ...]) -> Iterator[tuple[Path, int]]:
    """Kill a process at each of its calls in turn; yields each store, and the number of answers."""
    calls = whole(directory, kind, steps)

    def kill(number: int) -> tuple[Path, int]:
        for attempt in range(5):
            place = directory / f"{number}-{attempt}"
            status, answers, done = run(place, kind, steps, f"{calls[number][1]}:signal=KILL")
            assert status == -signal.SIGKILL
            if done[:number] == calls[:number]:
                break
        assert done[:number] == calls[:number]
        return place / "store", answers

    with ThreadPoolExecutor(2) as pool:
        killed = list(pool.map(kill, range(len(calls))))
    assert {answers for _, answers in killed} == set(range(len(steps) + 1))
    yield from killed


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_kill_at_each_call_of_batches(tmp_path: Path, kind: LocalKind) -> None:
    """After a kill at any call of a batch each file is there or not, and each acknowledged one is."""
    # Three files are synced one after another, in one thread.
    files = [b"one", b"two", b"three"]
    steps = ("batch=one,two,three", "remove=two", "batch=two,one")
    leftovers = 0
    for root, answers in kills(tmp_path, kind, steps):
        store = kind.open(root, Algorithm.MD5)
        leftovers += len(os.listdir(store.staging_directory))
        staging = kind.staging(store)
        assert not os.listdir(store.staging_directory)
        held = {content(store, blob.digest) for blob in store.iterate()}
        assert held <= set(files)
        if answers >= 2:  # after the first batch, in which nothing is removed
            assert {b"one", b"three"} <= held
        outcomes = staging.receive_all(([data], ()) for data in files)
        created = {one.digest.hex for one in outcomes if isinstance(one, Receipt) and one.created}
        assert created == {hashlib.md5(data).hexdigest() for data in set(files) - held}
        assert {content(store, blob.digest) for blob in store.iterate()} == set(files)
    assert leftovers


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("verbs", "states"), [PLAIN, HEALING], ids=["plain", "healing"])
def test_a_kill_at_each_call(
    tmp_path: Path, kind: LocalKind, verbs: tuple[str, ...], states: list[list[bytes]]
) -> None:
    """After a kill at any call the next process finds every acknowledged change and sweeps the leftovers."""
    leftovers = 0
    for root, answers in kills(tmp_path, kind, tuple(f"{verb}={DATA.decode()}" for verb in verbs)):
        store = kind.open(root, Algorithm.MD5)
        leftovers += len(os.listdir(store.staging_directory))
        staging = kind.staging(store)
        assert not os.listdir(store.staging_directory)
        held = [content(store, blob.digest) for blob in store.iterate()]
        # The step that was interrupted may have taken effect or not.
        assert held in (states[answers], states[answers + 1])
        assert put(staging, DATA).created is (held != [DATA])
        assert content(store, Algorithm.MD5.parse(hashlib.md5(DATA).hexdigest())) == DATA
        # Quarantined bytes may remain only if the good ones were back before this upload.
        assert held == [DATA] or not list(store.quarantined())
    assert leftovers
