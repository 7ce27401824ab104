"""The order of system calls that makes an upload safe: write, sync, link, sync the directory."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.support.kinds import KINDS, LocalKind, neighbours
from tests.support.servers import gunicorn
from tests.support.tracing import Trace, python_path, uploader
from tests.support.wire import Connection, message
from wsgi_store.digest import Algorithm
from wsgi_store.store.contract import Durability

# Coverage makes system calls of its own.
pytestmark = pytest.mark.uncounted

FIRST, SECOND = neighbours(Algorithm.MD5, 2)  # in the directory ab
HASH, OTHER = (hashlib.md5(data).hexdigest() for data in (FIRST, SECOND))
ADD, ADD_SECOND, REMOVE = f"add={FIRST.decode()}", f"add={SECOND.decode()}", f"remove={FIRST.decode()}"

UPLOAD = [
    "open staged",
    "write staged",
    "fsync staged",
    "flock .staging",
    "utimens staged",
    "mkdir ab",
    "fsync .",
    f"link staged ab/{HASH}",
    "fsync ab",
    "answer",
]
# When the directory exists and its name is already synced.
SECOND_UPLOAD = [
    "open staged",
    "write staged",
    "fsync staged",
    "flock .staging",
    "utimens staged",
    f"link staged ab/{OTHER}",
    "fsync ab",
    "answer",
]
# Whoever linked it may not have synced it yet; the lock keeps it from being removed while it is renewed.
DUPLICATE = [
    "open staged",
    "write staged",
    "fsync staged",
    "flock .staging",
    "utimens staged",
    f"link staged ab/{HASH} EEXIST",
    "flock ab",
    f"utimens ab/{HASH}",
    "flock ab",
    f"fsync ab/{HASH}",
    "fsync ab",
    "answer",
]
REMOVAL = ["flock .staging", "flock ab", f"unlink ab/{HASH}", "flock ab", "fsync ab", "answer"]
# Whoever created the directory may not have synced its name yet.
UPLOAD_BY_ANOTHER = [
    "open staged",
    "write staged",
    "fsync staged",
    "flock .staging",
    "utimens staged",
    "mkdir ab EEXIST",
    "fsync .",
    f"link staged ab/{HASH}",
    "fsync ab",
    "answer",
]
NOT_SYNCED = {
    Durability.FULL: set[str](),
    Durability.FILE: {"fsync .", "fsync ab"},
    Durability.NONE: {"fsync .", "fsync ab", "fsync staged", f"fsync ab/{HASH}"},
}


def expected(calls: list[str], kind: LocalKind, durability: Durability) -> list[str]:
    """The calls of a step for this kind of staging and this durability."""
    calls = [call for call in calls if call not in NOT_SYNCED[durability]]
    if kind.nameless or "open staged" not in calls:
        return calls
    return ["open staged", "flock staged", *calls[1:-1], "unlink staged", "answer"]


def traced(directory: Path, kind: LocalKind, durability: Durability, *steps: str) -> list[list[str]]:
    """The calls of a new process while it opens a store, and for each step."""
    trace = Trace(directory / f"trace-{steps}", directory / "a" / "store")
    command, environ = uploader(trace.root, kind, durability, *steps)
    subprocess.run(
        [*trace.command(), *command], env=environ, check=True, stdout=subprocess.DEVNULL, timeout=60
    )
    return trace.steps()


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("durability", Durability)
def test_the_order_of_calls(tmp_path: Path, kind: LocalKind, durability: Durability) -> None:
    """Bytes are synced before they get a name, and names before the store relies on them."""
    _, *done = traced(tmp_path, kind, durability, ADD, ADD_SECOND, ADD, REMOVE)
    steps = [UPLOAD, SECOND_UPLOAD, DUPLICATE, REMOVAL]
    assert done == [expected(step, kind, durability) for step in steps]
    _, *done = traced(tmp_path, kind, durability, ADD, REMOVE, ADD)
    again = [call for call in UPLOAD_BY_ANOTHER if call not in ("mkdir ab EEXIST", "fsync .")]
    assert done == [expected(step, kind, durability) for step in (UPLOAD_BY_ANOTHER, REMOVAL, again)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_new_store(tmp_path: Path, kind: LocalKind) -> None:
    """Every directory on the way to a new store is synced before its marker gets a name."""
    done = traced(tmp_path, kind, Durability.FULL)
    names = ["open staged", "flock staged", "link staged staged", "rename staged staged", "unlink staged"]
    claim = [
        "mkdir ..",
        "mkdir .",
        "mkdir .staging",
        *names,
        "open staged",
        "flock staged",
        "write staged",
        "fsync staged",
        "fsync ..",
        "fsync ../..",
        "link staged store.json",
        "unlink staged",
        "fsync .",
        "link . staged EPERM",
        "mkdir .staging EEXIST",
    ]
    probe = ["open staged", "link staged staged", "unlink staged"] if kind.nameless else names
    assert done == [[*claim, *probe, "answer"]]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_order_of_calls_in_a_server(tmp_path: Path, kind: LocalKind) -> None:
    """The server answers only after everything is synced."""
    trace = Trace(tmp_path / "trace", tmp_path / "store")
    # With -D the process started and stopped here is the server, not strace.
    server = gunicorn(
        tmp_path, before=trace.command("-D"), workers=1, PYTHONPATH=python_path(kind), WSGI_STORE_HASH="md5"
    )
    with server, Connection(server.port) as client:
        requests = [("POST", "/", FIRST), ("POST", "/", FIRST), ("DELETE", f"/{HASH}", None)]
        assert {client.ask(message(*request)).status for request in requests} == {200}
    trace.until_ended()
    steps = [expected(step, kind, Durability.FULL) for step in (UPLOAD, DUPLICATE, REMOVAL)]
    # Each request may have a thread of its own; requests that only check for readiness write nothing.
    assert sorted(step for step in trace.steps() if step != ["answer"]) == sorted(steps)
