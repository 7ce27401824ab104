"""A process killed at each of its system calls in turn: nothing is lost, and nothing is half there."""

import hashlib
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kinds import KINDS, LocalKind, content, put
from tracing import Trace, uploader

from wsgi_store.digest import Algorithm
from wsgi_store.stores import Durability

DATA = b"some bytes"
STEPS = (f"add={DATA.decode()}", f"add={DATA.decode()}", f"remove={DATA.decode()}")
# The blobs that are there after so many of the answers: that of the opening, then the steps'.
HELD = [[], [], [DATA], [DATA], []]


def run(directory: Path, kind: LocalKind, *inject: str) -> tuple[int, int, list[tuple[str, str]]]:
    """Do the steps in a process; returns how it ended, how often it answered and what it called."""
    directory.mkdir()
    trace = Trace(directory / "trace", directory / "store")
    command, environ = uploader(trace.root, kind, Durability.FULL, *STEPS)
    before = trace.command(*(f"--inject={call}" for call in inject))
    done = subprocess.run([*before, *command], env=environ, check=False, capture_output=True, timeout=60)
    (text,) = trace.texts()
    return done.returncode, done.stdout.count(b"\n"), list(trace.events(text))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_kill_at_each_call(tmp_path: Path, kind: LocalKind) -> None:
    """Wherever a process is killed, the next finds what was acknowledged, and sweeps what was not."""
    status, answers, calls = run(tmp_path / "whole", kind)
    assert (status, answers) == (0, len(STEPS) + 1)

    def kill(number: int) -> int:
        status, answers, done = run(tmp_path / str(number), kind, f"{calls[number][1]}:signal=KILL")
        assert status == -signal.SIGKILL
        assert done[:number] == calls[:number]
        return answers

    leftovers = 0
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(kill, range(len(calls))))
    for number, answers in enumerate(told):
        store = kind.open(tmp_path / str(number) / "store", Algorithm.MD5)
        leftovers += len(os.listdir(store.staging_directory))
        staging = kind.staging(store)
        assert not os.listdir(store.staging_directory)
        held = [content(store, blob.digest) for blob in store.iterate()]
        # What was under way may be done or not.
        assert held in (HELD[answers], HELD[answers + 1])
        assert put(staging, DATA).created is (not held)
        assert [blob.digest.hex for blob in store.iterate()] == [hashlib.md5(DATA).hexdigest()]
    assert set(told) == set(range(len(STEPS) + 1))
    assert leftovers
