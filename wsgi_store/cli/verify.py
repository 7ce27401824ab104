"""The command that verifies a store, also while a server runs."""

import sys
import time
from functools import partial

import click
from rich.filesize import decimal

from wsgi_store.cli.local import (
    budget_option,
    follow,
    opened,
    rate_option,
    root_option,
    status_of_run,
    workers_option,
)
from wsgi_store.cli.options import json_option
from wsgi_store.cli.output import Output, counted
from wsgi_store.upkeep import verify as verifying
from wsgi_store.upkeep.report import Report
from wsgi_store.upkeep.run import Run


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
@budget_option
@rate_option
@workers_option
@click.option("--pieces", is_flag=True, help="Keep the hashes of the pieces of large blobs (/HASH.meta4).")
@root_option
@json_option
def verify(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    sample: float | None, budget: int | None, rate: int | None, workers: int | None, pieces: bool, root: str
) -> None:
    """Hash the blobs of a store, move damaged ones to quarantine, and mend their names.

    It begins with the blobs that were verified longest ago, so each run continues the last one.
    Exits with 5 if blobs are damaged, and with 8 if some could not be read or the run did not
    finish.
    """
    store = opened(root)
    output = Output(["state", "hash", "detail"])

    def share(total: int) -> int:
        total = int(total * (1 if sample is None else sample))
        return total if budget is None else min(budget, total)

    def start() -> Run[Report]:
        return verifying.verify(
            store, sample=sample, budget=budget, rate=rate, workers=workers, pieces=pieces
        )

    sys.exit(status_of_run(follow(start, output, "verifying", share, partial(_conclude, output))))


def _conclude(output: Output, report: Report, interrupted: bool) -> None:
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
    if report.misnamed:
        words.append(f"{len(report.misnamed):,} misnamed")
    if report.adopted:
        words.append(f"{report.adopted:,} given their primary names")
    if report.failure:
        words.append(f"names were not mended: {report.failure.message}")
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
        misnamed=len(report.misnamed),
        adopted=report.adopted,
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
