"""However a verification ends, the blobs that it quarantined are reported, counted and recorded."""

import multiprocessing
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from tests.support.cli_service import invoke, objects
from tests.support.commands import in_own_group, install, run
from tests.support.kinds import KINDS, put
from tests.support.servers import until
from tests.support.upkeep import fill, flip, named
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import StoreUnavailable
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Blob, Durability
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.upkeep.check import Check
from wsgi_store.upkeep.ledger import Ledger
from wsgi_store.upkeep.plan import Batch, Tuning
from wsgi_store.upkeep.report import Report
from wsgi_store.upkeep.verify import verify
from wsgi_store.upkeep.workers import Workers

NUMBER = 40
SMALL = Tuning(batch_blobs=3)
# Enough small blobs to be read by processes.
MANY = 4500
SIZE = 2000


@pytest.fixture(name="store")
def fixture_store(root: Path) -> LocalStore:
    """A store in which every blob is damaged."""
    store = LocalStore(str(root), Algorithm.MD5, Durability.NONE)
    for number in range(NUMBER):
        digest = put(Staging(store, durability=Durability.NONE), b"%d" % number).digest
        KINDS[0].damage(root, digest, b"others")
    return store


@pytest.fixture(name="failing")
def fixture_failing(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the listing fail after some blobs were moved to quarantine."""
    iterate = store.iterate

    def failing(after: Digest | None = None, algorithm: Algorithm | None = None) -> Iterator[Blob]:
        yield from iterate(after, algorithm)
        until(lambda: moved(Path(store.root)), "a blob in quarantine")
        raise StoreUnavailable("the disk is not there any more")

    Ledger.update(
        store, lambda known: known.mark(store.algorithm, "", "f" * 32, 1.0)
    )  # start with the first blob
    monkeypatch.setattr(store, "iterate", failing)


def moved(root: Path) -> set[str]:
    """The names in quarantine."""
    return set(os.listdir(root / ".quarantine")) if (root / ".quarantine").exists() else set()


def told(store: LocalStore, report: Report) -> None:
    """Check that the report and the note contain all quarantined blobs, and the number of blobs read."""
    assert {digest.hex for digest in report.corrupt} == moved(Path(store.root))
    known = Ledger.load(store)
    assert (known.corrupt, known.blobs) == (len(report.corrupt), report.checked_blobs)


@pytest.mark.parametrize("processes_from", [1, 1000], ids=["processes", "threads"])
def test_in_the_middle_of_a_batch(store: LocalStore, root: Path, processes_from: int) -> None:
    """The blobs of a batch read before the end are reported, and the next run continues with the rest."""
    tuning = Tuning(processes_from=processes_from)
    held = {blob.digest for blob in store.iterate()}
    with closing(verify(store, rate=100, workers=2, tuning=tuning)) as run:
        next(run)
        next(run)
        until(lambda: moved(root), "a blob in quarantine")
    report = run.report
    told(store, report)
    fresh = [part for part in Ledger.load(store).parts() if part.time]
    seen = {one for one in held for part in fresh if part.after < one.hex <= part.upto}
    assert seen == set(report.corrupt)
    *_, report = verify(store, tuning=tuning)
    assert len(report.corrupt) == NUMBER - len(seen)


@pytest.mark.usefixtures("failing")
def test_while_it_counts(store: LocalStore) -> None:
    """When the listing fails, the blobs read so far are reported."""
    run = verify(store, workers=1, tuning=SMALL)
    with pytest.raises(StoreUnavailable, match="not there any more"):
        for report in run:
            assert not report.counted
    report = run.report
    told(store, report)
    assert report.corrupt and not report.complete


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("json", [False, True])
def test_the_command_while_it_counts(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, *, json: bool
) -> None:
    """When the listing fails, the command reports the quarantined blobs, and the totals as unknown."""
    monkeypatch.setattr("wsgi_store.cli.verify.opened", lambda _: store)
    monkeypatch.setattr("wsgi_store.upkeep.verify.verify", partial(verify, tuning=SMALL))
    # Threads, because a process would not see the patched store.
    result = invoke("verify", "--workers", "1", *(["--json"] if json else []), status=6)
    *rows, said = result.stdout.splitlines()
    assert "the disk is not there any more" in result.stderr
    if json:
        assert {row["hash"] for row in objects("\n".join(rows))} == moved(root)
        (report,) = objects(said)
        assert (report["checked_blobs"], report["corrupt"]) == (len(rows), len(rows))
        assert (report["total_blobs"], report["total_bytes"], report["oldest"]) == (None, None, None)
        assert report["interrupted"]
    else:
        assert {row.split("\t")[1] for row in rows} == moved(root)
        checked = "1 blob" if len(rows) == 1 else f"{len(rows)} blobs"
        assert said == (
            f"corrupt: checked {checked}, {6 * len(rows)} bytes, {len(rows)} corrupt, 0 unreadable, "
            "interrupted, the next run continues from here"
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("times", [1, 2])
def test_signals(tmp_path: Path, number: signal.Signals, times: int) -> None:
    """Ctrl-C and SIGTERM lose no result, even sent to all processes, and twice as `timeout` does."""
    contents = [f"{number:{SIZE}}".encode() for number in range(MANY)]
    root = tmp_path / "store"
    fill(root, Algorithm.SHA256, contents)
    program = install(tmp_path)
    bad = {flip(root / named(Algorithm.SHA256, data)) for data in contents[::5]}
    with in_own_group(tmp_path, program, "verify", "--workers", "2", "--rate", "1MB") as process:
        until(lambda: moved(root), "a blob in quarantine")
        for _ in range(times):
            os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
    *rows, said = out.decode().splitlines()
    assert (process.returncode, err) == (130, b"")
    assert {row.split("\t")[1] for row in rows} == moved(root) < bad
    assert re.match(rf"corrupt: checked [\d,]+ .* {len(rows)} corrupt, 0 unreadable, ", said), said
    done = run(program, "verify")
    assert done.returncode == 5
    assert moved(root) == bad
    assert b'"corrupt": 900' in (root / ".verified.json").read_bytes()


def test_signals_are_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignored signals stay ignored during a run, and the handlers are restored afterwards."""
    fill(tmp_path / "store", Algorithm.MD5, [b"one"])
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Coverage may have a handler of its own there.
    terminated = signal.getsignal(signal.SIGTERM)
    seen = []

    def look(*arguments: object, **options: object) -> object:
        seen.append((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)))
        return verify(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("wsgi_store.upkeep.verify.verify", look)
    try:
        invoke("verify")
        interrupt, terminate = seen[0]
        assert interrupt is signal.SIG_IGN is signal.getsignal(signal.SIGINT)
        assert callable(terminate) and terminate is not terminated
        assert signal.getsignal(signal.SIGTERM) is terminated
    finally:
        signal.signal(signal.SIGINT, before)


def test_workers_end_by_the_word_of_their_pool(store: LocalStore) -> None:
    """Workers ignore SIGTERM from other processes, to keep their findings, and obey their pool's.

    A killed worker may hold the lock that the others wait for, so the pool has to end them all.
    """
    with Workers(Check(store), 2, 1, many=True) as workers:
        waiting = [
            workers.submit(Batch(store.algorithm, [blob.digest.raw], "", ""))
            for blob in islice(store.iterate(), 2)
        ]
        until(lambda: len(children()) == 2, "the workers")
        pids = children()
        until(lambda: all(map(blocks_signals, pids)), "the workers to be ready")
        for pid in pids:
            subprocess.run(["kill", "-TERM", str(pid)], check=True)
        until(lambda: not any(map(has_signals, pids)), "the signals to be taken")
        assert children() == pids
        os.kill(pids[0], signal.SIGTERM)
        for future in waiting:
            with pytest.raises(BrokenExecutor):
                future.result(timeout=20)
    until(lambda: not children(), "the end of the workers")


def children() -> list[int]:
    """The ids of the pool's processes."""
    return sorted(process.pid for process in multiprocessing.active_children() if process.pid)


def signals(pid: int, kind: str) -> int:
    """A set of signals of a process, as bits (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.findall(rf"^{kind}:\s*([0-9a-f]+)$", status, re.M)[0], 16)


def blocks_signals(pid: int) -> bool:
    """Whether a process already leaves SIGTERM to the thread that waits for it."""
    return bool(signals(pid, "SigBlk") >> (signal.SIGTERM - 1) & 1)


def has_signals(pid: int) -> bool:
    """Whether SIGTERM is pending for a process."""
    return bool(signals(pid, "ShdPnd") >> (signal.SIGTERM - 1) & 1)
