"""The command that uploads files: put."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from wsgi_store.cli.announced import Announced
from wsgi_store.cli.find import find
from wsgi_store.cli.options import quiet_option, remote
from wsgi_store.cli.output import Output, size_of
from wsgi_store.cli.progress import meter
from wsgi_store.cli.servers import STDIN, connect, each
from wsgi_store.cli.tree import put_tree

if TYPE_CHECKING:
    from wsgi_store.client import Client, Uploaded

# Bytes of the largest file that the client collects: it is not hashed apart from the others.
COLLECTED = 256 << 10
RESENT = (
    "the hashes of this store are not collision resistant: files that it has are sent again, "
    "unless it gets a further algorithm"
)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@click.option(
    "-r",
    "--recursive",
    is_flag=True,
    help="Upload the files below directories; links to directories are not followed.",
)
@click.option(
    "--tree", is_flag=True, help="With -r, store one directory as a folder; prints the hash of its tree."
)
@click.option(
    "--exclude",
    metavar="GLOB",
    multiple=True,
    help="Skip files and directories of this name, or path below FILE if GLOB has a slash.",
)
@click.option("-f", "--force", is_flag=True, help="Send files that the server has, too.")
@click.option("-n", "--dry-run", is_flag=True, help="Send nothing; print what would be sent.")
@click.option(
    "--hash", "hash_", metavar="HASH", help="Upload the one FILE only if it has this hash, of any algorithm."
)
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Uploads at the same time."
)
@quiet_option
@remote
def put(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    files: tuple[str, ...],
    recursive: bool,
    tree: bool,
    exclude: tuple[str, ...],
    force: bool,
    dry_run: bool,
    hash_: str | None,
    jobs: int,
    **options: Any,
) -> None:
    """Upload files, or with - the standard input; prints the primary hash, the URL and the path of each.

    Large files that the server has are not sent again, unless its copy has another size. The upload
    of a file above 16 MiB that broke off, or was interrupted, continues where it stopped, also when
    the command is started again within the time that the server keeps it. If a file cannot be
    uploaded, the others are uploaded still, and the exit status is the highest of all failures. A
    failure that would hit every file ends the command at once. Pipes are read to their end; endless
    devices are refused.

    With --tree a folder is stored as a whole: its files, and then the tree, a blob that describes it. If
    anything fails, there is no tree. `ls -r`, `diff` and `get -r` take its hash.
    """
    # pylint: disable-next=import-outside-toplevel  # slow to import
    from wsgi_store.client.tree.exclude import Excluded

    if hash_ is not None and (len(files) > 1 or os.path.isdir(files[0])):
        raise click.UsageError("--hash is for one file")
    is_folder = recursive and len(files) == 1 and os.path.isdir(files[0])
    if tree and (not is_folder or dry_run or hash_ is not None):
        raise click.UsageError("--tree is for one directory, with -r and without --hash and --dry-run")
    output = Output(["state", "hash", "url", "path"] if dry_run else ["hash", "url", "path"])
    if tree:
        with connect(**options, connections=jobs) as client, output.progress() as bars:
            if not force:
                _tell_if_resent(client, output)
            with told_of_interruption(lambda: True, output):
                put_tree(client, output, bars, files[0], exclude, force=force, jobs=jobs)
        sys.exit(output.status)
    excluded = Excluded(exclude)
    with connect(**options, connections=jobs) as client, output.progress() as bars:
        hashing, sending = bars.add("hashing"), bars.add("sending")
        if output.live:
            for path in find(files, recursive, excluded, lambda error: None, lambda path, why: None):
                size = _size(path)
                sending.expect(size)
                if size > COLLECTED:
                    hashing.expect(size)
        paths = find(files, recursive, excluded, output.failed, output.note)
        with told_of_interruption(lambda: client.continues, output):
            if hash_ is not None:
                one = Announced(client, hash_, hashing, sending, force=force, dry_run=dry_run)
                for path in paths:
                    with each(client, output, OSError, path=path):
                        _told([(path, one.upload(path))], client, output, dry_run=dry_run)
            else:
                if recursive and not force and not dry_run:
                    _tell_if_resent(client, output)
                sent = client.put_many(
                    map(_source, paths),
                    force=force,
                    dry_run=dry_run,
                    jobs=jobs,
                    hashing=meter(hashing.advance),
                    progress=meter(sending.advance),
                )
                for group in sent.groups():
                    told = ((_path(one.source), one.outcome) for one in group)
                    _told(told, client, output, dry_run=dry_run)
    sys.exit(output.status)


def _source(path: str) -> Any:
    return sys.stdin.buffer if path == STDIN else path


def _path(source: Any) -> str:
    return source if isinstance(source, str) else STDIN


def _tell_if_resent(client: "Client", output: Output) -> None:
    if not any(algorithm.collision_resistant for algorithm in client.algorithms):
        output.note("put -r", RESENT)


def _told(
    outcomes: "Iterable[tuple[str, Uploaded | Exception]]", client: "Client", output: Output, *, dry_run: bool
) -> None:
    """Print what became of files; raises a failure that will hit every file."""
    rows: list[dict[str, object]] = []
    try:
        for path, outcome in outcomes:
            if isinstance(outcome, Exception):
                with each(client, output, OSError, path=path):
                    raise outcome
            else:
                rows.append(_row(path, outcome, dry_run))
                _remark(path, outcome, output)
    finally:
        output.rows(rows)


@contextmanager
def told_of_interruption(can_continue: Callable[[], bool], output: Output) -> Iterator[None]:
    """After Ctrl-C, say that another start continues, if it can."""
    try:
        yield
    except KeyboardInterrupt:
        if can_continue():
            output.note("interrupted", "start the command again to continue where it stopped")
        raise


def _remark(path: str, blob: "Uploaded", output: Output) -> None:
    if blob.continued_at:
        output.note(path, f"continued at {size_of(blob.continued_at)}")
    for algorithm in blob.ambiguous:
        output.note(path, f"stored; its {algorithm} hash leads to a different file")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _row(path: str, blob: "Uploaded", dry_run: bool) -> dict[str, object]:
    # dataclasses.asdict is slow enough to matter for many small files.
    row = {
        "path": path,
        "hash": blob.hash,
        "size": blob.size,
        "url": blob.url,
        "names": blob.names,
        "created": blob.created,
    }
    if dry_run:
        return {**row, "state": "would send" if blob.created else "there", "dry_run": True}
    return {**row, "healed": blob.healed, "ambiguous": blob.ambiguous}
