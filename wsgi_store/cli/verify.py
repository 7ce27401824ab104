"""Commands that maintain a store, also while a server runs: verify, collect, du, manifest."""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import click
from rich.filesize import decimal

from wsgi_store.cli.options import json_option, measure
from wsgi_store.cli.output import DAMAGED, UNVERIFIED, Output, counted
from wsgi_store.cli.owner import become_owner
from wsgi_store.cli.progress import meter
from wsgi_store.config import CLIENT, Config
from wsgi_store.errors import StoreError, StoreUnavailable
from wsgi_store.store.contract import Store
from wsgi_store.store.open import open_store
from wsgi_store.upkeep import collect as collecting
from wsgi_store.upkeep import verify as verifying
from wsgi_store.upkeep.usage import manifest as list_manifest
from wsgi_store.upkeep.usage import usage
from wsgi_store.upkeep.report import Report, Result
from wsgi_store.values import parse_size, parse_time

F = TypeVar("F", bound=Callable[..., Any])

# The words for what `collect` removes: for one, and for many unless by -s.
THINGS = {
    collecting.Kind.STAGED: ("staged file",),
    collecting.Kind.UPLOAD: ("upload",),
    collecting.Kind.LITTER: ("lock or probe", "locks or probes"),
    collecting.Kind.QUARANTINED: ("quarantined blob",),
    collecting.Kind.BLOB: ("blob",),
}

root_option = click.option(
    "--root",
    type=click.Path(),
    envvar="WSGI_STORE_ROOT",
    show_envvar=True,
    default="./store",
    show_default=True,
    help="The store; its marker says which algorithm it uses.",
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


def _share(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    # click.FloatRange takes nan.
    if value is None or 0 < value <= 1:
        return value
    raise click.BadParameter(f"expected a number greater than 0 and at most 1, not {value}")


@click.command()
@click.option(
    "--sample",
    metavar="SHARE",
    type=float,
    callback=_share,
    help="Check only this share of the blobs, such as 0.1, chosen at random.",
)
@measure("--budget", parse_size, "Stop after reading this many bytes, such as 100GiB.")
@measure("--rate", parse_size, "Read at most this many bytes per second, such as 50MB.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many blobs to read at once.  [default: the number of processors]",
)
@root_option
@json_option
def verify(
    sample: float | None, budget: int | None, rate: int | None, workers: int | None, root: str
) -> None:
    """Hash the blobs of a store and move damaged ones to quarantine.

    It begins with the blobs that were verified longest ago, so each run continues the last one.
    Exits with 5 if blobs are damaged, and with 8 if some could not be read or the run did not
    finish.
    """
    store = opened(root)
    output = Output(["state", "hash", "detail"])
    with _interrupted_once():
        run = verifying.verify(store, sample=sample, budget=budget, rate=rate, workers=workers)
        next(run)
        found = _findings(output)
        stopped: BaseException | None = None
        try:
            with closing(run):
                report = next(run)
                total = int(report.total_bytes * (1 if sample is None else sample))
                with output.progress() as bars:
                    total = total if budget is None else min(budget, total)
                    move = _following(bars.add("verifying", total).advance)
                    for report in run:
                        found(report)
                        move(report)
        except (KeyboardInterrupt, StoreError) as error:
            stopped = error
        report = run.report  # with what was moved while the run ended
        found(report)
        _conclude(report, output, interrupted=stopped is not None)
    if stopped is not None:
        raise stopped
    sys.exit({Result.CLEAN: 0, Result.CORRUPT: DAMAGED, Result.INCOMPLETE: UNVERIFIED}[report.result])


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
    """Return a function that prints the blobs found damaged or unreadable since its last call."""
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
        told.update(report.corrupt, report.unreadable)

    return tell


def _conclude(report: Report, output: Output, *, interrupted: bool) -> None:
    blobs, size = counted(report.checked_blobs, "blob"), decimal(report.checked_bytes)
    # The total is unknown until the store was counted.
    if report.counted:
        covered = report.checked_bytes / report.total_bytes if report.total_bytes else 1.0
        if report.unreadable:
            covered = min(covered, 0.999)  # their sizes may be unknown
        blobs = f"{report.checked_blobs:,} of {counted(report.total_blobs, 'blob')}"
        size += f" of {decimal(report.total_bytes)} ({_percent(covered)})"
    words = [
        f"{report.result.value}: checked {blobs}, {size}",
        f"{len(report.corrupt):,} corrupt",
        f"{len(report.unreadable):,} unreadable",
    ]
    if report.counted and report.oldest:  # unknown if a blob cannot be examined
        words.append(f"the longest unverified for {_age(time.time() - report.oldest)}")
    if report.unnoted:
        words.append(f"the next run cannot continue from here: {report.unnoted}")
    elif interrupted:
        words.append("interrupted, the next run continues from here")
    counts = {name: getattr(report, name) for name in ("checked_blobs", "checked_bytes", "gone")}
    for name in ("total_blobs", "total_bytes", "oldest"):
        counts[name] = getattr(report, name) if report.counted else None
    output.summary(
        ", ".join(words),
        result=report.result.value,
        **counts,
        corrupt=len(report.corrupt),
        unreadable=len(report.unreadable),
        interrupted=interrupted,
        unnoted=report.unnoted,
    )


def _percent(share: float) -> str:
    # Rounded down, so that 100% means that everything was read.
    return f"{int(share * 1000) / 10}%"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


@click.command()
@measure("--older", parse_time, "Remove blobs whose last upload is older than this, such as 90d.")
@measure("--max-size", parse_size, "Remove the oldest blobs until the rest is no larger than this.")
@measure("--quarantined-older", parse_time, "Remove quarantined blobs older than this, such as 30d.")
@measure(
    "--uploads-older",
    parse_time,
    "Abort uploads to an object store that have been idle for this long, and remove locks as old.",
    default="1d",
)
@click.option("--dry-run", is_flag=True, help="Remove nothing; print what would be removed.")
@root_option
@json_option
def collect(max_size: int | None, dry_run: bool, root: str, **older: Any) -> None:
    """Remove what killed processes left of uploads and, if asked, old blobs.

    A blob that is uploaded again meanwhile stays.
    """
    output = Output(["kind", "hash", "size"])
    counts: Counter[collecting.Kind] = Counter()
    size = 0
    for gone in collecting.collect(opened(root), max_bytes=max_size, dry_run=dry_run, **older):
        output.row(kind=gone.kind.value, hash=gone.digest.hex if gone.digest else "", size=gone.size)
        counts[gone.kind] += 1
        size += gone.size
    removed = ", ".join(counted(number, *THINGS[kind]) for kind, number in counts.items()) or "nothing"
    output.summary(
        f"{'would remove' if dry_run else 'removed'} {removed}: {decimal(size)}",
        **{kind.value: counts[kind] for kind in collecting.Kind},
        bytes=size,
        dry_run=dry_run,
    )


@click.command()
@root_option
@json_option
def du(root: str) -> None:
    """Show the number and size of blobs, staged files and quarantined blobs."""
    used = usage(opened(root))
    Output(["kind", "count", "size"]).table(
        {"kind": kind, "count": count, "size": size}
        for kind, count, size in (
            ("blobs", used.blobs, used.bytes),
            ("staged", used.staged, used.staged_bytes),
            ("quarantined", used.quarantined, used.quarantined_bytes),
        )
    )


@click.command()
@root_option
def manifest(root: str) -> None:
    """Print a line for each blob, for `md5sum -c` or `sha256sum -c` in the directory of the store."""
    for line in list_manifest(opened(root)):
        print(line)
