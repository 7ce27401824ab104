"""A store of version 0.1.0 that is migrated while clients use it, and everything is interrupted.

`make soak` does the same with 10,000 blobs: MIGRATION_BLOBS is their number, and CRASH_SEED repeats the
choices of an earlier run (what the threads make of them differs).
"""

import contextlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.crowds import running
from tests.support.histories import Operation, Outcome, linearisable
from tests.support.pauses import paused
from tests.support.servers import PROGRAMS, Server, gunicorn, uwsgi
from tests.support.visitors import NEW, OLD, Migrated, Visitor, links, make_old_store, regular_files

pytestmark = pytest.mark.races
BLOBS = int(os.environ.get("MIGRATION_BLOBS", "400"))
CLIENTS = 8
LATE = float("inf")
COUNTS = ("migrated", "named", "already", "by_others", "gone", "corrupt", "unreadable", "left")


class Migration:
    """Runs of `wsgi-store migrate` on a store."""

    def __init__(self, root: Path) -> None:
        self._command = [str(PROGRAMS / "wsgi-store"), "migrate", "--to", NEW, "--root", str(root), "--json"]
        self._seconds = max(1.0, BLOBS / 1000)
        size = sum((root / path).stat().st_size for path in regular_files(root))
        # Slow enough to be interrupted several times.
        self._rate = ["--rate", str(int(size / 6 / self._seconds))]

    def start(self, *options: str) -> "subprocess.Popen[str]":
        """Start a run."""
        return subprocess.Popen(
            [*self._command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def interrupt(self, number: signal.Signals) -> str:
        """Start a run and end it by a signal; returns its output."""
        with self.start(*self._rate) as run:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(self._seconds)
            assert run.poll() is None, run.communicate()
            run.send_signal(number)
            told, _ = run.communicate(timeout=60)
            return told

    def beside(self, act: Callable[[], object]) -> None:
        """Do something while it runs, and then end it."""
        with self.start(*self._rate) as run:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(self._seconds / 2)
            act()
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=60)

    def finish(self) -> list[dict[str, object]]:
        """Let two runs at once finish it; returns their summaries."""
        told = []
        with self.start() as first, self.start() as second:
            for run in (first, second):
                output, trouble = run.communicate(timeout=600)
                assert run.returncode == 0, output + trouble
                told.append(json.loads(output.splitlines()[-1]))
        return told


def stop_for_a_while(server: Server, seconds: float) -> None:
    """Stop all processes of a server, and let them go on."""
    with paused(server.process.pid, *server.processes()):
        threading.Event().wait(seconds)


@pytest.mark.parametrize("start", [gunicorn, uwsgi])
def test_a_migration_under_load(tmp_path: Path, start: Callable[..., Server]) -> None:
    """Every acknowledged blob is there by its old and its new name, and programs can check the files."""
    seed = os.environ.get("CRASH_SEED") or secrets.token_hex(4)
    print(f"\n{start.__name__}, {BLOBS} blobs, CRASH_SEED={seed}")
    root = tmp_path / "store"
    make_old_store(root, BLOBS)
    migration = Migration(root)
    with start(tmp_path, WSGI_STORE_HASH=OLD) as server:
        ledger = Migrated([server.port], old=BLOBS)
        visitors = [Visitor(ledger, f"{seed}-{number}") for number in range(CLIENTS)]
        with running(ledger.end, *visitors):
            ledger.await_answers(50)
            print(migration.interrupt(signal.SIGINT))
            migration.interrupt(signal.SIGKILL)
            migration.beside(lambda: stop_for_a_while(server, 3))
            print(*(summaries := migration.finish()), sep="\n")
            ledger.await_answers(50)
    for summary in summaries:
        assert summary["finished"]
        assert summary["blobs"] == sum(int(str(summary[count])) for count in COUNTS)
    # The setting of the old store is still accepted.
    directory = tmp_path / "again"
    directory.mkdir()
    with start(directory, WSGI_STORE_HASH=OLD, WSGI_STORE_ROOT=str(root)) as server:
        judge(ledger, server)
    check_files(root, ledger)


def judge(ledger: Migrated, server: Server) -> None:
    """Check what the clients saw, and what is there now by each name."""
    there: dict[str, bool] = {}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as client:
        for key, names in ledger.names.items():
            statuses = set()
            for name in names:
                client.request("HEAD", f"/{name}")
                with client.getresponse() as answer:
                    answer.read()
                    statuses.add(answer.status)
            assert statuses in ({200}, {404}), (names, statuses)
            there[key] = statuses == {200}
    wrong = [
        key
        for key, history in ledger.histories.items()
        if not linearisable(
            [*history, Operation(LATE, LATE, Outcome.HELD if there[key] else Outcome.MISSING)]
        )
    ]
    figures = {**ledger.counts, "listings": len(ledger.listings), "blobs": sum(there.values())}
    print("\n".join(f"{figure:8} {name}" for name, figure in sorted(figures.items())))
    assert not ledger.trouble
    assert not wrong
    assert not ledger.counts["altered"]
    assert not ledger.unlisted()
    assert ledger.listings
    for what in (f"GET by {OLD}", f"GET by {NEW}", f"DELETE by {OLD}", f"DELETE by {NEW}"):
        assert ledger.counts[what]


def check_files(root: Path, ledger: Migrated) -> None:
    """Check the directory with the programs that everybody has."""
    files, further = regular_files(root), links(root)
    for program, paths in (("sha256sum", files), ("md5sum", further)):
        sums = "".join(f"{Path(path).name}  {path}\n" for path in paths)
        checked = subprocess.run(
            [program, "--check", "--quiet", "--strict"],
            cwd=root,
            input=sums,
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {len(Path(path).name) for path in files} == {64}
    assert {len(Path(path).name) for path in further} == {32}
    there = {Path(path).name for path in (*files, *further)}
    assert len(files) == len(further) == sum(names <= there for names in ledger.names.values())
