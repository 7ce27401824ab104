"""Counts shared by processes: none is lost, invented or counted twice, even if processes are killed."""

import os
import resource
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.servers import until
from wsgi_store.metrics import shared as module
from wsgi_store.metrics.shared import Counts, Durations, Key, Number

DONE = Key("done", ("a", "b"))
LIVE = Key("live", live=True)
# Counts the given number of times, reports it, and waits to be killed.
COUNTING = """
    import sys
    from wsgi_store.metrics.shared import Counts, Key, Number
    counts = Counts(sys.argv[1])
    done, live = (Number(counts, key) for key in (Key("done", ("a", "b")), Key("live", live=True)))
    live.add()
    for _ in range(int(sys.argv[2])):
        done.add()
    print(flush=True)
    sys.stdin.read()
"""


@contextmanager
def counting(directory: Path, number: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has finished counting; it is killed at the end."""
    command = [sys.executable, "-c", textwrap.dedent(COUNTING), str(directory), str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


@pytest.fixture(name="shared")
def fixture_shared(tmp_path: Path) -> Iterator[Counts]:
    """Counts of this process, in a directory."""
    shared = Counts(str(tmp_path))
    yield shared
    close(shared)


def close(shared: Counts) -> None:
    """Close what a process keeps open until it ends."""
    if (file := vars(shared)["_file"]) is not None:
        os.close(file[0])
    vars(shared).clear()  # the mapping keeps the file open, too


def test_threads() -> None:
    """Counts of many threads add up."""
    alone = Counts()
    number = Number(alone, DONE)
    durations = Durations(alone, Key("took"), (1.0, 2.0))

    def count() -> None:
        for _ in range(5_000):
            number.add(2)
            durations.add(1.5)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert alone.totals() == {DONE: [80_000], Key("took"): [60_000, 0, 40_000, 0]}


@given(st.lists(st.floats(0, 400)), st.lists(st.text(max_size=20), max_size=4))
def test_durations(seconds: list[float], labels: list[str]) -> None:
    """Each duration goes to the smallest bucket that fits it, whatever the labels."""
    alone = Counts()
    key = Key("took", tuple(labels))
    bounds = (0.5, 1.0, 100.0)
    durations = Durations(alone, key, bounds)
    expected = [0.0] * 5
    for one in seconds:
        durations.add(one)
        expected[0] += one
        expected[1 + sum(bound < one for bound in bounds)] += 1
    assert alone.totals() == ({key: expected} if seconds else {})


def test_killed_processes_stay_counted(shared: Counts, tmp_path: Path) -> None:
    """Counters of a killed process stay in the sum, its gauges do not."""
    for mine in Number(shared, DONE), Number(shared, LIVE):
        mine.add()
    for round_ in range(1, 4):
        with counting(tmp_path, 100), counting(tmp_path, 1000):
            assert shared.totals() == {DONE: [1 + 1100 * round_], LIVE: [3]}
        assert shared.totals() == {DONE: [1 + 1100 * round_], LIVE: [1]}


def test_no_more_files_than_processes(shared: Counts, tmp_path: Path) -> None:
    """A new process reuses the file of a dead process, and never that of a living one."""
    Number(shared, DONE).add()
    for _ in range(5):
        with counting(tmp_path, 10):
            pass
    with counting(tmp_path, 10), counting(tmp_path, 10):
        assert shared.totals()[DONE] == [71]
        assert len(list(tmp_path.iterdir())) == 3


def test_going_on_with_the_file_of_another(tmp_path: Path) -> None:
    """A reused file keeps its counters and resets its gauges."""
    with counting(tmp_path, 10):
        pass
    mine = Counts(str(tmp_path))
    try:
        Number(mine, DONE).add()
        assert mine.totals() == {DONE: [11], LIVE: [0]}
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        close(mine)


def test_looking_does_not_end_the_lock(shared: Counts, tmp_path: Path) -> None:
    """Reading all counts does not release the lock on a process's own file."""
    number = Number(shared, DONE)
    number.add()
    for _ in range(2):
        shared.totals()
    with counting(tmp_path, 10):
        number.add()
        assert shared.totals()[DONE] == [12]
        assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("in_directory", [True, False])
def test_a_fork_counts_for_itself(tmp_path: Path, in_directory: bool) -> None:
    """Counts of a forked child do not change the memory of its parent."""
    program = f"""
        import os
        from wsgi_store.metrics.shared import Counts, Key, Number
        counts = Counts({str(tmp_path) if in_directory else None!r})
        number = Number(counts, Key("done"))
        number.add()
        if not (child := os.fork()):
            number.add(10)
            os._exit(not counts.totals()[Key("done")] == [{11 if in_directory else 10}])
        assert os.waitpid(child, 0)[1] == 0
        number.add()
        print(counts.totals()[Key("done")])
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ("[12.0]\n" if in_directory else "[2.0]\n")


@pytest.mark.uncounted  # it would limit the coverage data, too
def test_no_room(tmp_path: Path) -> None:
    """If its file cannot be created, a process counts on its own and logs that."""
    program = """
        import sys
        from loguru import logger
        from wsgi_store.metrics.shared import Counts, Key, Number
        logger.enable("wsgi_store")
        counts = Counts(sys.argv[1])
        number = Number(counts, Key("done"))
        number.add()
        number.add()
        print(counts.totals()[Key("done")])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (module.SIZE - 1, module.SIZE - 1)),
    )
    assert done.stdout == "[2.0]\n"
    assert done.stderr.count("is not seen by others: [Errno 27] File too large") == 1
    assert not list(tmp_path.iterdir())


def test_more_than_there_is_room_for(shared: Counts) -> None:
    """With more series than the file can hold, there is no error, and the others stay correct."""
    numbers = [Number(shared, Key("many", (str(number),))) for number in range(10_000)]
    for _ in range(2):
        for number in numbers:
            number.add()
    totals = shared.totals()
    assert 5_000 < len(totals) < 10_000
    assert set(map(tuple, totals.values())) == {(2.0,)}


def test_what_is_being_made_is_left_alone(shared: Counts, tmp_path: Path) -> None:
    """An incomplete or vanished file disturbs neither a reader nor a new process."""
    Number(shared, DONE).add()
    half = tmp_path / f"half{module.SUFFIX}"
    half.write_bytes((100).to_bytes(8, sys.byteorder))  # announces records that are not there
    (tmp_path / f"gone{module.SUFFIX}").symlink_to("nowhere")
    assert shared.totals() == {DONE: [1]}
    with counting(tmp_path, 10):
        assert shared.totals() == {DONE: [11], LIVE: [1]}
    assert half.stat().st_size == 8


def test_killed_while_they_count(shared: Counts, tmp_path: Path) -> None:
    """A process killed while counting leaves readable numbers, and its file is reused."""

    def total() -> float:
        return sum(shared.totals().get(DONE, []))

    command = [sys.executable, "-c", textwrap.dedent(COUNTING), str(tmp_path), str(1 << 30)]
    for _ in range(20):
        before = total()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            try:
                until(lambda before=before: total() >= before + 100, "a hundred")
            finally:
                process.kill()
        assert total() >= before + 100
        assert total() == int(total())
