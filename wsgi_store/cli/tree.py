"""Folders and their trees: the command diff, uploads of folders, and listings of them."""

import stat
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from wsgi_store.cli.options import remote
from wsgi_store.cli.output import DIFFERENT, WRONG, Output, counted, status_of
from wsgi_store.cli.progress import Bars, meter
from wsgi_store.cli.servers import connect, each
from wsgi_store.errors import WSGIStoreError

if TYPE_CHECKING:
    from wsgi_store.client import Change, Client, Entry

TYPES = {"dir": stat.S_IFDIR, "file": stat.S_IFREG, "link": stat.S_IFLNK}


def put_tree(  # pylint: disable=too-many-arguments
    client: "Client",
    output: Output,
    bars: Bars,
    directory: str,
    exclude: Iterable[str],
    *,
    force: bool,
    jobs: int,
) -> None:
    """Upload a folder and print its tree; raises OSError, and a failure that concerns more than one file."""
    hashing, sending = bars.add("hashing"), bars.add("sending")
    try:
        tree = client.put_tree(
            directory,
            exclude=exclude,
            force=force,
            jobs=jobs,
            hashing=meter(hashing.advance),
            progress=meter(sending.advance),
        )
    except WSGIStoreError as error:
        with each(client, output, path=error.evidence.get("path", directory)):
            raise
    else:
        output.note(directory, f"{counted(tree.files, 'file')}, {tree.sent:,} sent")
        output.row(path=directory, **asdict(tree))


def list_tree(client: "Client", hash_: str) -> None:
    """Print what is in the folder of a tree; raises what `Client.tree` raises."""
    Output(["permissions", "size", "hash", "path", "target"]).table(map(_row, client.tree(hash_)))


def _row(entry: "Entry") -> dict[str, object]:
    """The fields of a row; those that the entry lacks are left out."""
    kind = entry.kind.value
    row = {
        "path": entry.path,
        "kind": kind,
        "mode": f"{entry.mode:04o}",
        "permissions": stat.filemode(TYPES[kind] | entry.mode),
        "size": entry.size,
        "modified": entry.modified,
        "hash": None if entry.hash is None else entry.hash.hex,
        "algorithm": None if entry.hash is None else entry.hash.algorithm.value,
        "target": entry.target,
    }
    return {name: value for name, value in row.items() if value is not None}


@click.command()
@click.argument("before", metavar="HASH")
@click.argument("after", metavar="HASH")
@remote
def diff(before: str, after: str, **options: Any) -> None:
    """Show what differs between two folders that `put -r --tree` stored.

    Prints - for a path that only the first one has, + for one that only the second one has, and M for
    what was modified, with what changed: kind, mode, content, time or target. Ends with status 0 if
    nothing differs, with 1 if something does, and with 2 or more after a failure.
    """
    output = Output(["change", "path", "what"])
    differ = False
    try:
        with connect(**options) as client:
            for change in client.diff(before, after):
                output.row(**_change(change))
                differ = True
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (WSGIStoreError, OSError) as error:
        output.failed(error)
        sys.exit(max(WRONG, status_of(error)))
    sys.exit(DIFFERENT if differ else 0)


def _change(change: "Change") -> dict[str, Any]:
    sides = {"before": change.before, "after": change.after}
    return {
        "change": "+" if change.before is None else "-" if change.after is None else "M",
        "path": change.path,
        "what": list(change.what),
        **{side: _row(entry) for side, entry in sides.items() if entry is not None},
    }
