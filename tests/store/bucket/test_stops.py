"""Processes that stop or end between two requests: nothing acknowledged is lost, by any of its names."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.support import ceph
from tests.support.engines import Between
from tests.support.stops import (
    MD5,
    MIGRATING,
    NAMED,
    OLD,
    SHA1,
    SHA256,
    TIMEOUT,
    Call,
    Server,
    called,
    explained,
    killed,
    outlast_locks,
    stopped,
)

pytestmark = pytest.mark.races

EVERY = "STOPS_EVERY" in os.environ
DATA = b"the same bytes in every round"
Step: TypeAlias = Callable[[Server], Call]
Steps: TypeAlias = Callable[[Server], None]


def upload(server: Server) -> Call:
    """Upload the bytes."""
    return called("upload", lambda: server.upload(DATA))


def delete(algorithm: object) -> Step:
    """Delete the blob by a name."""
    return lambda server: called("delete", lambda: server.delete(algorithm, DATA))  # type: ignore[arg-type]


def read(algorithm: object) -> Step:
    """Read the blob by a name."""
    return lambda server: called("read", lambda: server.holds(algorithm, DATA))  # type: ignore[arg-type]


def adopt(server: Server) -> Call:
    """Give all strays their primary names."""
    return called("adopt", server.adopt_all)


def migrate(server: Server) -> Call:
    """Migrate the whole store."""
    return called("migrate", server.migrate)


def sweep(server: Server) -> Call:
    """Sweep the names."""
    return called("sweep", server.sweep)


def empty(server: Server) -> None:
    """A store with further names."""
    server.make(NAMED)


def held(server: Server) -> None:
    """The same with the blob."""
    server.make(NAMED)
    server.upload(DATA)


def dangling(server: Server) -> None:
    """The same after the blob was deleted."""
    held(server)
    server.delete(SHA256, DATA)


def stray(server: Server) -> None:
    """A store under migration, with the blob under its old name."""
    server.make(MIGRATING)
    server.put_stray(MD5, DATA)


def half(server: Server) -> None:
    """The same with both keys, as a migration leaves it that is killed before it removes the old one."""
    stray(server)
    server.adopt_all()
    server.put_stray(MD5, DATA)


def old(server: Server) -> None:
    """A store that has not been migrated, without the blob."""
    server.make(OLD)


def old_held(server: Server) -> None:
    """The same with the blob."""
    server.make(OLD)
    server.upload(DATA)


MEANWHILE: dict[Steps, list[Sequence[Step]]] = {
    empty: [[upload], [upload, delete(MD5)], [sweep], [upload, delete(SHA1), upload]],
    held: [[upload], [delete(SHA256)], [delete(MD5), upload], [read(SHA1), sweep]],
    dangling: [[upload], [sweep], [upload, sweep, read(MD5)], [sweep, upload, delete(MD5)]],
    stray: [[adopt], [delete(MD5)], [upload], [delete(MD5), upload, read(MD5)], [adopt, delete(SHA256)]],
    half: [[adopt], [delete(MD5)], [upload, delete(SHA256)], [delete(SHA1), upload]],
    old: [[migrate], [migrate, upload], [migrate, upload, delete(SHA256)], [upload, migrate, delete(MD5)]],
    old_held: [[migrate], [migrate, delete(SHA256)], [migrate, delete(MD5), upload], [migrate, sweep]],
}
OUTER: dict[Steps, list[tuple[str, Step]]] = {
    empty: [("upload", upload)],
    held: [("upload", upload), ("delete", delete(SHA256)), ("delete by MD5", delete(MD5))],
    dangling: [("upload", upload), ("sweep", sweep)],
    stray: [("adopt", adopt), ("upload", upload), ("delete", delete(MD5))],
    half: [("adopt", adopt), ("upload", upload), ("delete", delete(SHA256)), ("by MD5", delete(MD5))],
    old: [("upload", upload)],
    old_held: [("upload", upload), ("delete", delete(MD5)), ("by SHA1", delete(SHA1))],
}
CASES = [
    pytest.param(setup, step, id=f"{setup.__name__}: {name}")
    for setup, steps in OUTER.items()
    for name, step in steps
]


@pytest.fixture(name="roots")
def fixture_roots(tmp_path: Path) -> Iterator[Path]:
    """The roots of any number of stores."""
    ceph.ensure()
    return (tmp_path / str(number) for number in itertools.count())


def presence(server: Server) -> set[bool]:
    """Whether the blob is there, by each of its names."""
    return {server.holds(algorithm, DATA) for algorithm in (SHA256, MD5, SHA1)}


@pytest.mark.parametrize("setup, step", CASES)
def test_a_process_is_stopped_between_two_requests(
    roots: Iterator[Path], proxy: Between, setup: Steps, step: Step
) -> None:
    """Whatever others do while a process is stopped, all results are as if one came after another.

    Afterwards the blob is there by all its names, or by none. Locks of the stopped process are taken over.
    """
    choices = MEANWHILE[setup]
    for number in itertools.count(1):
        # In turn, because all of them before each request take minutes.
        for meanwhile in choices if EVERY else [choices[number % len(choices)]]:
            if not stop_before(number, next(roots), proxy, setup, step, meanwhile):
                assert number > 2
                return


def stop_before(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    number: int, root: Path, proxy: Between, setup: Steps, step: Step, meanwhile: Sequence[Step]
) -> bool:
    """Stop a step before a request, do something else, and go on; returns whether there was that request."""
    others = Server(root, timeout=TIMEOUT)
    setup(others)
    before = any(others.holds(one, DATA) for one in others.algorithms)
    server = Server(root, proxy.url, TIMEOUT)
    server.refresh()
    seen: list[Call] = []
    came = stopped(proxy, number, lambda: seen.extend(one(others) for one in meanwhile))
    outer = step(server)
    proxy.answer = lambda _: None
    if not came():
        return False
    others.refresh()
    if others.algorithm is MD5:
        others.migrate()
    after = presence(others)
    told = f"stopped before request {number}: {seen}, {outer}, {after}, {others.keys()}"
    assert len(after) == 1, told
    assert explained(before, seen, outer, after.pop()), told
    return True


@pytest.mark.parametrize("setup, step", CASES)
def test_a_process_is_killed_between_two_requests(
    roots: Iterator[Path], proxy: Between, setup: Steps, step: Step
) -> None:
    """Acknowledged blobs are there by all names, and the next operation finishes what was begun."""
    for number in itertools.count(1):
        root = next(roots)
        others = Server(root, timeout=TIMEOUT)
        setup(others)
        before = {one for one in others.algorithms if others.holds(one, DATA)}
        server = Server(root, proxy.url, TIMEOUT)
        server.refresh()
        came = killed(proxy, number)
        outer = step(server)
        proxy.answer = lambda _: None
        if not came():
            break
        told = f"killed at request {number}: {outer}, {others.keys()}"
        outlast_locks()
        others.refresh()
        there = {one for one in others.algorithms if others.holds(one, DATA)}
        if outer.kind != "delete":
            assert there >= before, told
        elif outer.result:
            assert not there, told  # only its lock was left
        if outer.kind == "upload":
            assert others.upload(DATA) == (not there), told
        elif outer.kind == "delete" and there:
            assert others.delete(others.algorithm if others.algorithm in there else MD5, DATA), told
        if others.algorithm is MD5:
            others.migrate()
        else:
            others.adopt_all()
        after = presence(others)
        assert after == {outer.kind == "upload" or (outer.kind != "delete" and bool(before))}, told
        others.sweep()
        blobs = {key for key in others.keys() if key[0] not in ".s"}
        assert len(blobs) == after.pop(), told
