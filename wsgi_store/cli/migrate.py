"""The command that migrates a store to another algorithm, also while a server runs."""

import sys
from collections.abc import Callable, Sequence
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
from wsgi_store.digest import Algorithm
from wsgi_store.upkeep import migrate as migrating
from wsgi_store.upkeep.run import Effort, Run

KNOWN = ", ".join(algorithm.value for algorithm in Algorithm)


def _algorithms(_: click.Context, __: click.Parameter, value: str | None) -> list[Algorithm] | None:
    try:
        return None if value is None else [Algorithm(name.strip().lower()) for name in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"expected one or more of {KNOWN}, not {value!r}") from None


def _algorithm(context: click.Context, option: click.Parameter, value: str | None) -> Algorithm | None:
    algorithms = _algorithms(context, option, value)
    if algorithms is not None and len(algorithms) > 1:
        raise click.BadParameter(f"expected one of {KNOWN}, not {value!r}")
    return None if algorithms is None else algorithms[0]


@click.command()
@click.option(
    "--to", metavar="HASH", callback=_algorithm, help="Name every blob by this hash; the old names stay."
)
@click.option(
    "--add-names",
    metavar="HASH,...",
    callback=_algorithms,
    help="Give every blob further names by these hashes.",
)
@click.option(
    "--drop-names", metavar="HASH,...", callback=_algorithms, help="Remove the further names by these hashes."
)
@budget_option
@rate_option
@workers_option
@click.option("--dry-run", is_flag=True, help="Change nothing; print what would be read and changed.")
@root_option
@json_option
def migrate(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    to: Algorithm | None,
    add_names: list[Algorithm] | None,
    drop_names: list[Algorithm] | None,
    budget: int | None,
    rate: int | None,
    workers: int | None,
    dry_run: bool,
    root: str,
) -> None:
    """Name the blobs of a store by another hash, or by several, while servers go on.

    Upgrade and restart servers of version 0.1.0 first. Interrupt it at any time: the next run goes on.
    Exits like `verify`.
    """
    if [to, add_names, drop_names].count(None) != 2:
        raise click.UsageError("give one of --to, --add-names and --drop-names")
    store = opened(root)
    limits = migrating.Limits(budget, dry_run, Effort(rate, workers))
    start: Callable[[], Run[migrating.Migration]]
    if to is not None:
        what, start = f"migrating to {to.value}", partial(migrating.migrate, store, to, limits)
    elif add_names is not None:
        what = f"adding {_told(add_names)} names"
        start = partial(migrating.add_names, store, add_names, limits)
    else:
        assert drop_names is not None
        what = f"dropping {_told(drop_names)} names"
        start = partial(migrating.drop_names, store, drop_names, limits)
    output = Output(["state", "hash", "detail"])

    def share(total: int) -> int:
        return total if budget is None else min(budget, total)

    conclude = partial(_conclude_dry if dry_run else _conclude, output, what)
    sys.exit(status_of_run(follow(start, output, what, share, conclude)))


def _told(algorithms: Sequence[Algorithm]) -> str:
    return " and ".join(algorithm.value for algorithm in algorithms)


def _conclude_dry(output: Output, what: str, report: migrating.Migration, _: bool) -> None:
    words = [f"{what} would read {counted(report.total_blobs, 'blob')}, {decimal(report.total_bytes)}"]
    if report.removed:
        words.append(f"remove {counted(report.removed, 'name')}")
    output.summary(
        " and ".join(words),
        blobs=report.total_blobs,
        bytes=report.total_bytes,
        removed=report.removed,
        dry_run=True,
    )


def _conclude(output: Output, what: str, report: migrating.Migration, interrupted: bool) -> None:
    counts = {
        "migrated": report.adopted,
        "named": report.named,
        "already": report.already,
        "by others": report.others,
        "gone": report.gone,
        "corrupt": len(report.corrupt),
        "unreadable": len(report.unreadable),
        "left": report.left,
    }
    words = [f"{report.result.value}: {what}: {counted(report.there, 'blob')}"]
    words += [f"{number:,} {word}" for word, number in counts.items() if number]
    if report.removed:
        words.append(f"{counted(report.removed, 'name')} removed")
    words.append(f"{decimal(report.checked_bytes)} read")
    if interrupted:
        words.append("interrupted, the next run continues from here")
    else:
        words.append("finished" if report.ended else "not finished, run it again")
    output.summary(
        ", ".join(words),
        result=report.result.value,
        blobs=report.there,
        **{word.replace(" ", "_"): number for word, number in counts.items()},
        removed=report.removed,
        read_bytes=report.checked_bytes,
        finished=report.ended,
        interrupted=interrupted,
        unnoted=report.unnoted,
    )
