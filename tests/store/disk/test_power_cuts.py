"""Power cuts before each change that an operation makes on ext4 and xfs (and LazyFS, where it is installed).

What was acknowledged is there afterwards, by each of its names, and the operation can be done again.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from tests.support.cuts import cuttable, kinds
from tests.support.kinds import digest_of
from tests.support.rounds import Process, Round
from wsgi_store.digest import Algorithm
from wsgi_store.store.contract import Durability
from wsgi_store.store.marker import Marker

pytestmark = pytest.mark.races
MD5, SHA1, SHA256 = Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256
PLAIN = Marker(MD5)
NAMED = Marker(SHA256, (MD5, SHA1))
MIGRATING = Marker(SHA256, (MD5, SHA1), migrating=MD5)
FIRST, SECOND = b"first", b"second"


@dataclass
class Case:
    """A store, steps on it, and the blobs that are there before the first step and after each."""

    marker: Marker
    prepare: Callable[[Round], object]
    steps: list[Callable[[Process], object]]
    states: list[set[bytes]]
    named: list[set[bytes]] = field(default_factory=list)
    """The blobs that certainly have all names of the marker by then, if not all have."""


def put_old(one: Round) -> None:
    """Put the files of a store that is migrated."""
    for data in (FIRST, SECOND):
        one.put_file(MD5, data)


def put_crashed(one: Round) -> None:
    """Put what a migration leaves that was killed between its link and its rename."""
    put_old(one)
    for data in (FIRST, SECOND):
        new = one.path(digest_of(SHA256, data))
        new.parent.mkdir(exist_ok=True)
        new.hardlink_to(one.path(digest_of(MD5, data)))


def upload(data: bytes) -> Callable[[Process], object]:
    """Upload a blob."""
    return lambda process: process.upload(data)


def remove(data: bytes, algorithm: Algorithm) -> Callable[[Process], object]:
    """Remove a blob by a name."""
    return lambda process: process.remove(data, algorithm)


def adopt(process: Process) -> None:
    """Give all files their primary names."""
    process.adopt(MD5)


def change(marker: Marker) -> Callable[[Process], object]:
    """Change the marker."""
    return lambda process: process.names.change_marker(lambda _: marker)


CASES = {
    "names": Case(
        NAMED,
        lambda one: None,
        [upload(FIRST), upload(SECOND), remove(FIRST, SHA1), upload(SECOND), upload(FIRST)],
        [set(), {FIRST}, {FIRST, SECOND}, {SECOND}, {SECOND}, {FIRST, SECOND}],
    ),
    "migrated": Case(
        MIGRATING,
        put_old,
        [upload(FIRST), adopt, remove(SECOND, SHA256)],
        [{FIRST, SECOND}, {FIRST, SECOND}, {FIRST, SECOND}, {FIRST}],
        [set(), {FIRST}, {FIRST, SECOND}, {FIRST}],
    ),
    "crashed": Case(
        MIGRATING,
        put_crashed,
        [remove(FIRST, MD5), remove(SECOND, SHA256), upload(FIRST)],
        [{FIRST, SECOND}, {SECOND}, set(), {FIRST}],
        [set(), set(), set(), {FIRST}],
    ),
    "marker": Case(
        PLAIN,
        put_old,
        [change(MIGRATING), adopt, change(NAMED), remove(FIRST, MD5)],
        [{FIRST, SECOND}] * 4 + [{SECOND}],
        [set(), set(), {FIRST, SECOND}, {FIRST, SECOND}, {SECOND}],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("kind", kinds())
def test_a_cut_before_each_change(memory: Path, kind: str, case: Case) -> None:
    """After a cut before any change every acknowledged blob and name is there, and the work can go on."""
    with cuttable(kind, memory) as disk:
        for number in count(1):
            one = Round(disk.path, number, case.marker, Durability.FULL)
            case.prepare(one)
            disk.sync()
            process, done = one.process(), 0

            def act(process: Process = process) -> None:
                nonlocal done
                for step in case.steps:
                    step(process)
                    done += 1

            one.turns.at_kill = disk.cut
            one.turns.run([act], {0: number})
            if not one.turns.killed:
                disk.cut()
            disk.restart()
            check(one, case, done)
            one.end()
            if not one.turns.killed:
                assert number > 2 * done == 2 * len(case.steps)
                break


@pytest.mark.parametrize("marker", [PLAIN, NAMED], ids=["plain", "names"])
@pytest.mark.parametrize("kind", kinds())
def test_a_cut_before_each_change_of_batches(memory: Path, kind: str, marker: Marker) -> None:
    """After a cut in a batch each file is there or not, and each acknowledged one by all its names."""
    third = b"third"
    everything = {FIRST, SECOND, third}
    steps: list[Callable[[Process], object]] = [
        lambda process: process.upload_all([FIRST, SECOND, third]),
        lambda process: process.remove(SECOND, MD5),
        lambda process: process.upload_all([SECOND, FIRST]),
    ]
    certain: list[set[bytes]] = [set(), everything, {FIRST, third}, everything]
    with cuttable(kind, memory) as disk:
        for number in count(1):
            one = Round(disk.path, number, marker, Durability.FULL)
            disk.sync()
            process, done = one.process(), 0

            def act(process: Process = process) -> None:
                nonlocal done
                for step in steps:
                    step(process)
                    done += 1

            one.turns.at_kill = disk.cut
            one.turns.run([act], {0: number})
            if not one.turns.killed:
                disk.cut()
            disk.restart()
            one.check_tree()
            process = one.process()
            held = {data for data in everything if process.holds(data, marker.algorithm)}
            # The second step may have removed its blob before the cut.
            assert held >= certain[done] - ({SECOND} if done == 1 else set())
            for data in held & certain[done]:
                assert one.settled(data, marker.algorithms)
            process.upload_all(sorted(everything))
            assert all(one.settled(data, marker.algorithms) for data in everything)
            one.check_tree()
            one.end()
            if not one.turns.killed:
                assert number > 2 * done == 2 * len(steps)
                break


@pytest.mark.parametrize("kind", kinds())
def test_what_a_cut_loses(memory: Path, kind: str) -> None:
    """A cut loses what was written and not synced, and nothing else."""
    with cuttable(kind, memory) as disk:
        synced, written = disk.path / "synced", disk.path / "written"
        synced.write_bytes(FIRST)
        disk.sync()
        written.write_bytes(SECOND)
        assert written.read_bytes() == SECOND
        disk.cut()
        disk.restart()
        assert synced.read_bytes() == FIRST
        # The name may survive on LazyFS.
        assert not written.exists() or not written.read_bytes()


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind != "lazyfs"])
def test_a_cut_while_another_namespace_has_the_disk(memory: Path, kind: str) -> None:
    """The disk comes back although a process in another mount namespace kept it mounted for a while."""
    with cuttable(kind, memory) as disk:
        (disk.path / "synced").write_bytes(FIRST)
        disk.sync()
        with subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", "echo; sleep 1"], stdout=subprocess.PIPE
        ) as user:
            assert user.stdout is not None and user.stdout.readline() == b"\n"
            disk.cut()
            disk.restart()
            assert (disk.path / "synced").read_bytes() == FIRST


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize(
    ("marker", "algorithm"),
    [(PLAIN, MD5), (NAMED, SHA256), (NAMED, MD5), (MIGRATING, MD5), (MIGRATING, SHA256)],
)
def test_an_upload_of_what_was_copied(memory: Path, kind: str, marker: Marker, algorithm: Algorithm) -> None:
    """An upload that finds its file there, copied and not synced, makes it survive a cut by all its names."""
    with cuttable(kind, memory) as disk:
        one = Round(disk.path, 1, marker, Durability.FULL)
        disk.sync()
        one.put_file(algorithm, FIRST)
        assert not one.process().upload(FIRST).created
        disk.cut()
        disk.restart()
        assert one.settled(FIRST, one.process().store.algorithms)
        one.check_tree()
        one.end()


def check(one: Round, case: Case, done: int) -> None:
    """Check the store after so many steps, and perhaps a part of the next; then let the rest be done."""
    process = one.process()
    algorithms = process.store.algorithms
    one.check_tree()
    held = {data for data in (FIRST, SECOND) if process.holds(data, MD5)}
    assert held in case.states[done : done + 2]
    for data in (case.named or case.states)[done] & held:
        assert one.settled(data, algorithms)
    if MD5 in process.names.marker().names:
        process.adopt(MD5)
    for data in (FIRST, SECOND):
        one.settled(data, [MD5, algorithms[0]])
        process.upload(data)
        assert one.settled(data, process.store.algorithms)
    one.check_tree()
