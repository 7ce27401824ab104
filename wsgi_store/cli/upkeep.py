"""Commands that work on a store itself, also beside a server: verify, collect, du, manifest."""

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

from wsgi_store.cli.measures import counted, measure
from wsgi_store.cli.output import DAMAGED, UNVERIFIED, Output, json_option
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
from wsgi_store.upkeep.verify import Report, Result
from wsgi_store.values import parse_size, parse_time

F = TypeVar("F", bound=Callable[..., Any])

# What `collect` removes, one and many.
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
    help="The store; its hash is that of its own marker.",
)


def opened(root: str) -> Store:
    """The store there; raises StoreUnavailable where there is none, rather than making one."""
    environ = {name: value for name, value in os.environ.items() if name not in CLIENT}
    config = replace(Config.from_env(environ), root=root)
    directory = root
    if "://" in root:
        directory = os.path.abspath(config.remote.staging)
        while not os.path.isdir(directory):  # it will be made
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
    raise click.BadParameter(f"expected a share of more than 0 and at most 1, not {value}")


@click.command()
@click.option(
    "--sample",
    metavar="SHARE",
    type=float,
    callback=_share,
    help="Check only this share of the blobs, such as 0.1, drawn by lot.",
)
@measure("--budget", parse_size, "End when so many bytes were read, such as 100GiB.")
@measure("--rate", parse_size, "Read at most so much a second, such as 50MB.")
@click.option("--workers", type=click.IntRange(min=1), help="Blobs read at once; by default the processors.")
@root_option
@json_option
def verify(
    sample: float | None, budget: int | None, rate: int | None, workers: int | None, root: str
) -> None:
    """Hash what a store holds and move what is damaged to quarantine.

    What was not verified for longest comes first, and the next run goes on where one ended:
    every night a part. Ends with 5 when blobs are damaged, and with 8 when some could not be
    read or it did not come to its end.
    """
    store = opened(root)
    output = Output(["state", "hash", "detail"])
    with _interrupted_once():
        reports = verifying.verify(store, sample=sample, budget=budget, rate=rate, workers=workers)
        report = next(reports)
        found = _findings(report, output)
        stopped: BaseException | None = None
        try:
            with closing(reports):
                next(reports)
                total = int(report.total_bytes * (1 if sample is None else sample))
                with output.progress() as bars:
                    total = total if budget is None else min(budget, total)
                    move = _following(report, bars.add("verifying", total).advance)
                    for _ in reports:
                        found()
                        move()
        except (KeyboardInterrupt, StoreError) as error:
            stopped = error
        found()  # also what was moved while it ended
        _conclude(report, output, interrupted=stopped is not None)
    if stopped is not None:
        raise stopped
    sys.exit({Result.CLEAN: 0, Result.CORRUPT: DAMAGED, Result.INCOMPLETE: UNVERIFIED}[report.result])


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """Have SIGTERM interrupt like Ctrl-C, and neither once more while what was found is told."""
    # What ran in the background of a script may be told to ignore the one.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    asked = os.getpid()

    def interrupt(*_: object) -> None:
        if os.getpid() != asked:
            return  # a worker that has hardly begun, and is told by the one who asked
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


def _following(report: Report, advance: Callable[[int], None]) -> Callable[[], None]:
    """What advances to where the report is, and never back."""
    advance_to = meter(advance)
    farthest = 0

    def move() -> None:
        nonlocal farthest
        # What turns out not to be readable to its end does not count any more.
        farthest = max(farthest, report.checked_bytes + report.reading_bytes)
        advance_to(farthest)

    return move


def _findings(report: Report, output: Output) -> Callable[[], None]:
    """What prints the damaged and the unreadable blobs that were found since it was last called."""
    told: set[object] = set()

    def tell() -> None:
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
    # Till the store was counted nobody knows of how much that is.
    if report.counted:
        covered = report.checked_bytes / report.total_bytes if report.total_bytes else 1.0
        if report.unreadable:
            covered = min(covered, 0.999)  # how large they are may not be known
        blobs = f"{report.checked_blobs:,} of {counted(report.total_blobs, 'blob')}"
        size += f" of {decimal(report.total_bytes)} ({_percent(covered)})"
    words = [
        f"{report.result.value}: checked {blobs}, {size}",
        f"{len(report.corrupt):,} corrupt",
        f"{len(report.unreadable):,} unreadable",
    ]
    if report.counted and report.oldest:  # of a blob that cannot be looked at nobody knows since when
        words.append(f"the longest unverified for {_age(time.time() - report.oldest)}")
    if report.unnoted:
        words.append(f"the next run cannot go on from here: {report.unnoted}")
    elif interrupted:
        words.append("interrupted, the next run goes on from here")
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
    # Rounded down: 100% is said when everything was read, and not before.
    return f"{int(share * 1000) / 10}%"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


@click.command()
@measure("--older", parse_time, "Remove blobs that were last uploaded longer ago, such as 90d.")
@measure("--max-size", parse_size, "Remove the oldest blobs until all together are no larger.")
@measure("--quarantined-older", parse_time, "Remove what is in quarantine for longer, such as 30d.")
@measure(
    "--uploads-older",
    parse_time,
    "Abort uploads to an object store that got no part for so long, and remove locks as old.",
    default="1d",
)
@click.option("--dry-run", is_flag=True, help="Remove nothing, tell what would be removed.")
@root_option
@json_option
def collect(max_size: int | None, dry_run: bool, root: str, **older: Any) -> None:
    """Remove what may go: always what killed processes left of uploads; the rest if asked.

    A blob that is uploaded meanwhile stays.
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
    """Count blobs, staged files and what is in quarantine, with their bytes."""
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
    """Print a line for each blob, for `md5sum -c`, `sha256sum -c` and the like in the store's directory."""
    for line in list_manifest(opened(root)):
        print(line)
