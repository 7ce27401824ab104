"""Commands that maintain a store, also while a server runs: collect, du, manifest."""

from collections import Counter
from typing import Any

import click
from rich.filesize import decimal

from wsgi_store.cli.local import opened, root_option
from wsgi_store.cli.options import json_option, measure
from wsgi_store.cli.output import Output, counted
from wsgi_store.digest import Algorithm
from wsgi_store.upkeep import collect as collecting
from wsgi_store.upkeep.usage import manifest as list_manifest
from wsgi_store.upkeep.usage import usage
from wsgi_store.values import parse_size, parse_time

# The words for what `collect` removes: for one, and for many unless by -s.
THINGS = {
    collecting.Kind.STAGED: ("staged file",),
    collecting.Kind.UPLOAD: ("upload",),
    collecting.Kind.EXPIRED: ("expired upload",),
    collecting.Kind.LITTER: ("lock or probe", "locks or probes"),
    collecting.Kind.QUARANTINED: ("quarantined blob",),
    collecting.Kind.BLOB: ("blob",),
    collecting.Kind.PIECES: ("list of pieces", "lists of pieces"),
    collecting.Kind.NAME: ("name",),
}


@click.command()
@measure("--older", parse_time, "Remove blobs whose last upload is older than this, such as 90d.")
@measure("--max-size", parse_size, "Remove the oldest blobs until the rest is no larger than this.")
@measure("--quarantined-older", parse_time, "Remove quarantined blobs older than this, such as 30d.")
@measure(
    "--uploads-older",
    parse_time,
    "Also remove unfinished uploads that have been idle for this long, such as 1h. In an object store, parts "
    "of uploads and locks go after 1d by default.",
)
@click.option("--dry-run", is_flag=True, help="Remove nothing; print what would be removed.")
@root_option
@json_option
def collect(max_size: int | None, dry_run: bool, root: str, **older: Any) -> None:
    """Remove expired uploads, what killed processes left, names of removed blobs and, if asked, old blobs.

    A blob that is uploaded again meanwhile stays.
    """
    output = Output(["kind", "hash", "size"])
    counts: Counter[collecting.Kind] = Counter()
    size = 0
    for gone in collecting.collect(opened(root), max_bytes=max_size, dry_run=dry_run, **older):
        hash_ = gone.digest.hex if gone.digest else gone.name or ""
        output.row(kind=gone.kind.value, hash=hash_, size=gone.size)
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
    """Show the number and size of blobs, further names, staged files, uploads and quarantined blobs.

    `promised` is the room that is kept for the rest of unfinished uploads.
    """
    used = usage(opened(root))
    Output(["kind", "count", "size"]).table(
        {"kind": kind, "count": count, "size": size}
        for kind, count, size in (
            ("blobs", used.blobs, used.bytes),
            ("names", used.names, used.names_bytes),
            ("staged", used.staged, used.staged_bytes),
            ("uploads", used.uploads, used.uploads_bytes),
            ("promised", used.promised, used.promised_bytes),
            ("quarantined", used.quarantined, used.quarantined_bytes),
        )
    )


@click.command()
@click.option(
    "--names",
    type=click.Choice([algorithm.value for algorithm in Algorithm]),
    help="List the names by this algorithm.  [default: the primary names]",
)
@root_option
def manifest(names: str | None, root: str) -> None:
    """Print a line for each blob, for `md5sum -c` or `sha256sum -c` in the directory of the store."""
    for line in list_manifest(opened(root), Algorithm(names) if names else None):
        print(line)
