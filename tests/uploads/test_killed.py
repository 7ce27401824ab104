"""An upload whose process is killed at each of its system calls in turn loses nothing, and finishes."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.kinds import content, digest_of
from tests.support.servers import PROJECT
from tests.support.tracing import Trace
from wsgi_store.digest import Algorithm
from wsgi_store.errors import UploadNotFound
from wsgi_store.staging import Staging
from wsgi_store.store.open import open_store
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.uploads import Uploads

pytestmark = [pytest.mark.races, pytest.mark.uncounted]
SHA256 = Algorithm.SHA256
DATA = b"a file of three pieces" * 3
PIECE = len(DATA) // 3
ANNOUNCED = FileInfo(length=len(DATA), expected=(digest_of(SHA256, DATA),))
PROGRAM = """
import sys
from dataclasses import replace
from tests.support.kinds import digest_of
from tests.uploads.test_killed import ANNOUNCED, DATA, PIECE, SHA256
from wsgi_store.staging import Staging
from wsgi_store.store.open import open_store
from wsgi_store.uploads.uploads import Uploads
store = open_store(sys.argv[1], SHA256, create=True)
late = sys.argv[2] == "late"
upload = Uploads(Staging(store), store).create("me", replace(ANNOUNCED, expected=()) if late else ANNOUNCED)
print(upload.identity, flush=True)
for start in range(0, len(DATA), PIECE):
    piece = DATA[start : start + PIECE]
    # The second piece has a digest of its own, or announces that of the file.
    expected = [digest_of(SHA256, piece)] if start == PIECE and not late else []
    digests = ANNOUNCED.expected if start == PIECE and late else ()
    print(upload.append([piece], start, expected=expected, digests=digests).offset, flush=True)
"""


def uploaded(root: Path, when: str, *before: str) -> tuple[int, list[str]]:
    """Upload the file in another process; returns its exit status and what its client was told."""
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [*before, sys.executable, "-c", PROGRAM, str(root), when]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout.split()


def traced(directory: Path, when: str, *inject: str) -> tuple[int, list[str], Trace]:
    """Upload into a new store under strace; returns the exit status, what was told, and the trace."""
    trace = Trace(directory / "trace", directory / "store")
    open_store(str(trace.root), SHA256, create=True)
    return *uploaded(trace.root, when, *trace.command(*(f"--inject={call}" for call in inject))), trace


def check(root: Path, when: str, told: list[str]) -> None:
    """Go on with the upload of a killed process."""
    store = open_store(str(root))
    uploads = Uploads(Staging(store), store)
    upload = None
    if told:
        upload = uploads.find("me", told[0])
    with suppress(UploadNotFound):
        upload = upload or uploads.create("me", ANNOUNCED)
    assert upload is not None
    state = upload.state()
    assert state.offset >= (int(told[-1]) if told[1:] else 0)
    if state.receipt is None:
        # A client that knows the digest is led to the upload, and to another one until it is announced.
        other = uploads.create("me", ANNOUNCED)
        if other.identity != upload.identity:
            assert state.offset < 2 * PIECE
            other.remove()
    state = upload.append([DATA[state.offset :]] if state.receipt is None else (), state.offset)
    assert state.receipt is not None
    # Nobody else stored it, so this is told once, although the process that did so was killed.
    assert state.receipt.created
    assert content(store, ANNOUNCED.expected[0]) == DATA
    assert not os.listdir(store.staging_directory)
    uploads.sweep()
    (own,) = (root / ".uploads").glob("[!.]*")
    parts = {one.name: {part.name for part in one.iterdir()} for one in own.glob("[!.]*")}
    assert parts.pop(upload.identity) == {"upload.json", "done.json"}
    # Until its client was told of it, an upload without a digest is lost, and expires.
    assert not parts or not told and when == "late"


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_kill_at_each_call(tmp_path: Path, when: str) -> None:
    """What was acknowledged is there, the rest is sent, and nothing else is left."""
    status, told, trace = traced(tmp_path / "whole", when)
    assert (status, told[-1]) == (0, str(len(DATA)))
    points = sorted({call for text in trace.texts() for _, call in trace.events(text)})

    def kill(number: int) -> int:
        status, told, trace = traced(tmp_path / str(number), when, f"{points[number]}:signal=KILL")
        check(trace.root, when, told)
        return status

    with ThreadPoolExecutor(2) as pool:
        killed = list(pool.map(kill, range(len(points))))
    assert killed.count(-signal.SIGKILL) > 60
