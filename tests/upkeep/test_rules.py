"""The rules of names that concern migrations, verification and collection, each in 1,000 rounds.

See tests/store/disk/test_rules.py.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support.kinds import digest_of
from tests.support.rounds import Round, race
from wsgi_store.digest import Algorithm
from wsgi_store.store.marker import Marker
from wsgi_store.upkeep import migrate as migrating
from wsgi_store.upkeep import workers
from wsgi_store.upkeep.report import Report
from wsgi_store.upkeep.run import Run
from wsgi_store.upkeep.verify import verify

pytestmark = pytest.mark.races
MD5, SHA1, SHA256 = Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256
PLAIN, NAMED, WITH_SHA1 = Marker(MD5), Marker(SHA256, (MD5,)), Marker(SHA256, (MD5, SHA1))
OLD, LATE, NEW = b"old", b"late", b"new"


class Inline(Executor):
    """Does all work at once in the calling thread, which takes turns with other acts."""

    def __init__(self, _: int) -> None:
        pass

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Do the work."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.fixture(name="memory")
def fixture_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in memory; runs do their work in the thread that follows them."""
    monkeypatch.setattr(workers, "ThreadPoolExecutor", Inline)
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def followed(run: Run[Any]) -> Report:
    """Follow a run to its end."""
    report: Report = run.report
    for report in run:
        pass
    return report


class Passes:
    """Notes when each pass over a store for files under old names begins."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.clock: Callable[[], int] = int
        self.begun: list[int] = []
        strays: Any = migrating._Strays  # pylint: disable=protected-access

        def begin(*arguments: Any, **options: Any) -> object:
            self.begun.append(self.clock())
            return strays(*arguments, **options)

        patch.setattr(migrating, "_Strays", begin)


@pytest.mark.parametrize("marker", [PLAIN, NAMED], ids=["migrate", "drop"])
def test_rule_5_it_ends_when_no_file_has_an_old_name(
    memory: Path, monkeypatch: pytest.MonkeyPatch, marker: Marker
) -> None:
    """A file that appears under an old name before the last pass has its primary name in the end."""
    passes = Passes(monkeypatch)
    in_time = set()

    def one_round(one: Round) -> None:
        passes.clock = one.turns.tick
        one.put_file(MD5, OLD)
        store, foreign = one.process().store, one.process()
        run = migrating.migrate(store, SHA256) if marker is PLAIN else migrating.drop_names(store, [MD5])

        def put_late() -> int:
            for _ in range(one.choice.randrange(30)):
                foreign.holds(OLD, MD5)
            one.put_file(MD5, LATE)
            return one.turns.tick()

        report, _, put = one.run(
            partial(followed, run), partial(one.process().upload, NEW), put_late, killing=0.2
        )
        algorithms = one.process().store.algorithms
        if report is not None:
            assert run.report.ended
            assert algorithms == ((SHA256, MD5) if marker is PLAIN else (SHA256,))
            assert one.process().holds(OLD, SHA256)
            in_time.add(put is not None and put < passes.begun[-1])
            assert put is None or put > passes.begun[-1] or one.process().holds(LATE, SHA256)
        for data in (OLD, LATE):
            if MD5 in algorithms and one.path(digest_of(MD5, data)).exists():
                assert one.process().holds(data, MD5)

    race(memory, [marker], one_round)
    assert in_time == {True, False}


def test_rule_6_names_that_lead_nowhere(memory: Path) -> None:
    """They are absent and no finding; wrong ones are mended, and right ones of new blobs stay."""
    found = set()

    def one_round(one: Round) -> None:
        first = one.process()
        for data in (OLD, LATE):
            first.upload(data)
        first.remove(OLD, SHA256)
        wrong = digest_of(MD5, b"wrong")
        one.path(wrong).parent.mkdir(exist_ok=True)
        if one.choice.random() < 0.5:
            target = one.path(digest_of(SHA256, LATE))
            one.path(wrong).symlink_to(f"../{target.parent.name}/{target.name}")
        verifier, reader = one.process(), one.process()
        report, *_ = one.run(
            lambda: followed(verify(verifier.store)),
            partial(one.process().upload, one.choice.choice([OLD, NEW])),
            lambda: [reader.read(OLD, name) for name in WITH_SHA1.algorithms],
            one.choice.choice(
                [first.sweep, partial(first.upload, b"wrong"), partial(first.remove, LATE, SHA1)]
            ),
            killing=0.2,
        )
        if report is None:
            report = followed(verify(one.process().store))
        assert not report.corrupt and not report.unreadable
        assert set(report.misnamed) <= {wrong}
        found.add(bool(report.misnamed))
        one.process().sweep()
        for data in (LATE, NEW):
            one.settled(data, WITH_SHA1.algorithms)
        one.judge(OLD, WITH_SHA1.algorithms)

    race(memory, [WITH_SHA1], one_round)
    assert found == {True, False}
