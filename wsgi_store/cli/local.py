"""What commands on a store itself share, not on a server: they open it, and run until interrupted."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TypeVar

import click

from wsgi_store.cli.options import measure
from wsgi_store.cli.output import DAMAGED, UNVERIFIED, Output
from wsgi_store.cli.owner import become_owner
from wsgi_store.cli.progress import meter
from wsgi_store.config import CLIENT, Config
from wsgi_store.errors import StoreError, StoreUnavailable
from wsgi_store.store.contract import Store
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.report import Report, Result
from wsgi_store.upkeep.run import Run
from wsgi_store.values import parse_size

R = TypeVar("R", bound=Report)

root_option = click.option(
    "--root",
    type=click.Path(),
    envvar="WSGI_STORE_ROOT",
    show_envvar=True,
    default="./store",
    show_default=True,
    help="The store; its marker says which algorithm it uses.",
)
budget_option = measure("--budget", parse_size, "Stop after reading this many bytes, such as 100GiB.")
rate_option = measure("--rate", parse_size, "Read at most this many bytes per second, such as 50MB.")
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many blobs to read at once.  [default: the number of processors]",
)


def opened(root: str) -> Store:
    """Open an existing store; raises StoreUnavailable if there is none."""
    environ = {name: value for name, value in os.environ.items() if name not in CLIENT}
    config = replace(Config.from_env(environ), root=root)
    directory = root
    if "://" in root:
        directory = os.path.abspath(config.remote.staging)
        while not os.path.isdir(directory):  # staging is made later, below this one
            directory = os.path.dirname(directory)
    try:
        become_owner(directory)
    except OSError as error:
        raise StoreUnavailable(f"there is no store at {root}: {error.strerror}") from None
    return open_store(config.root, None, config.durability, config.remote, read_only=config.read_only)


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """Let SIGTERM interrupt like Ctrl-C, and ignore both after the first, while results are printed."""
    # A script's background job ignores SIGINT, and must go on doing so.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    asked = os.getpid()

    def interrupt(*_: object) -> None:
        if os.getpid() != asked:
            return  # a worker process that has just been forked; its parent will stop it
        for number in heeded:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in heeded:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])


def follow(
    start: Callable[[], Run[R]],
    output: Output,
    what: str,
    share: Callable[[int], int],
    conclude: Callable[[R, bool], object],
) -> R:
    """Start a run, go through it and return its last report; print what it finds, and its progress.

    `share` returns how many of all bytes the run reads. `conclude` prints the result, also if the run is
    interrupted or fails, and then is told so; this raises KeyboardInterrupt or StoreError afterwards.
    """
    stopped: BaseException | None = None
    with _interrupted_once():
        run = start()
        next(run)
        found = _findings(output)
        try:
            with closing(run):
                # The thread of the bars begins after the workers, which can be forked until then.
                counted = next((report for report in run if report.counted), run.report)
                with output.progress() as bars:
                    move = _following(bars.add(what, share(counted.total_bytes)).advance)
                    for report in run:
                        found(report)
                        move(report)
        except (KeyboardInterrupt, StoreError) as error:
            stopped = error
        report = run.report  # with what was moved while the run ended
        found(report)
        conclude(report, stopped is not None)
    if stopped is not None:
        raise stopped
    return report


def status_of_run(report: Report) -> int:
    """Return the exit status that tells the result of a run."""
    return {Result.CLEAN: 0, Result.CORRUPT: DAMAGED, Result.INCOMPLETE: UNVERIFIED}[report.result]


def _following(advance: Callable[[int], None]) -> Callable[[Report], None]:
    """Return a function that advances the bar to a report, never back."""
    advance_to = meter(advance)
    farthest = 0

    def move(report: Report) -> None:
        nonlocal farthest
        # The report drops the bytes of a blob that turns out to be unreadable.
        farthest = max(farthest, report.checked_bytes + report.reading_bytes)
        advance_to(farthest)

    return move


def _findings(output: Output) -> Callable[[Report], None]:
    """Return a function that prints what was found since its last call."""
    told: set[object] = set()

    def tell(report: Report) -> None:
        for digest in report.corrupt:
            if digest not in told:
                reason = report.unmoved.get(digest)
                detail = "moved to quarantine" if reason is None else f"not moved to quarantine: {reason}"
                row = {"hash": digest.hex, "quarantined": reason is None, "detail": detail}
                output.row(state="corrupt", **row)
        for digest, reason in report.unreadable.items():
            if digest not in told:
                output.row(state="unreadable", hash=digest.hex, detail=reason)
        for digest, detail in report.misnamed.items():
            if digest not in told:
                output.row(state="misnamed", hash=digest.hex, detail=detail)
        for digest in report.ambiguous:
            if digest not in told:
                output.row(state="ambiguous", hash=digest.hex, detail="the name of another blob, too")
        told.update(report.corrupt, report.unreadable, report.misnamed, report.ambiguous)

    return tell
