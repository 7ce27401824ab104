"""Commands that download blobs: get, cat."""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from wsgi_store.cli.options import hashes_argument, quiet_option, remote
from wsgi_store.cli.output import Output
from wsgi_store.cli.parallel import in_parallel
from wsgi_store.cli.progress import Bar, meter
from wsgi_store.cli.restore import restore
from wsgi_store.cli.servers import STDIN, Servers, each

if TYPE_CHECKING:
    from wsgi_store.client import Client, RemoteBlob
    from wsgi_store.client.names import Name

Wanted = tuple["Client", "Name"]
Job = tuple[Wanted, str]


@click.command()
@hashes_argument
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(),
    help="The file to write, a directory for several, or - for standard output.  [default: ./HASH]",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite existing files.")
@click.option("-r", "--recursive", is_flag=True, help="Restore the folder of a tree: get -r HASH DIR.")
@click.option("--outward-links", is_flag=True, help="With -r: make symbolic links that lead out of DIR, too.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Downloads at the same time.",
)
@quiet_option
@remote
def get(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    hashes: tuple[str, ...],
    target: str | None,
    force: bool,
    recursive: bool,
    outward_links: bool,
    jobs: int,
    **options: Any,
) -> None:
    """Download blobs to files; prints the path of each.

    HASH is any hash of a blob, or its URL, which may carry a signed link, or - to read a list from
    standard input, as `put`, `ls` and `link` print it. A file gets the name in its URL, else its
    hash.

    The bytes are compared with the hash before a file gets its name. An interrupted download
    stays in FILE.part, and the next one continues it.

    With -r, HASH is that of a tree, which `put -r --tree` prints, and the folder comes back in DIR.
    Equal files stay, other ones in their place are replaced, and the rest of DIR stays. Nothing
    outside DIR changes. An interrupted restore stays in DIR/.HASH.part, and the next one continues it.
    """
    if recursive:
        if len(hashes) != 2 or hashes[0] == STDIN or target is not None or force:
            raise click.UsageError("-r takes one HASH and one DIR, and neither -o nor -f")
        restore(*hashes, outward_links=outward_links, jobs=jobs, options=options)
    if outward_links:
        raise click.UsageError("--outward-links goes with -r")
    if target is not None and (target == STDIN or _is_stream(target)):
        cat_to(sys.stdout.buffer if target == STDIN else target, hashes, options)
    output = Output(["path"])
    with Servers(**options, connections=jobs) as servers, output.progress() as bars:
        wanted: Iterable[Wanted] = servers.holding(hashes, output)
        if target is not None and not _is_directory(target):
            wanted = list(islice(wanted, 2))
            if len(wanted) > 1:
                raise click.UsageError("-o names a file, but there are several blobs: name a directory")
        received = bars.add("receiving")

        def save(job: Job) -> "RemoteBlob":
            (client, name), path = job
            if output.live:
                received.expect(client.stat(name.text).size)
            return client.get(name.text, path, force=force, progress=meter(received.advance))

        for done in in_parallel(save, _paths(wanted, target), jobs):
            for job, outcome in done:
                with each(job[0][0], output, OSError, hash=job[0][1].hash):
                    outcome.result()
                if outcome.exception() is None:
                    output.row(path=job[1], **asdict(outcome.result()))
    sys.exit(output.status)


@click.command()
@hashes_argument
@remote
def cat(hashes: tuple[str, ...], **options: Any) -> None:
    """Write blobs to standard output, one after the other.

    HASH is any hash of a blob, or its URL, or - to read a list from standard input. The last bytes
    of a blob are written only if all its bytes match the hash.
    """
    cat_to(sys.stdout.buffer, hashes, options)


def cat_to(target: BinaryIO | str, hashes: Iterable[str], options: dict[str, Any]) -> None:
    """Write blobs to a stream, or to the pipe or device at a path; ends the command."""
    output = Output([])
    with Servers(**options) as servers, output.progress() as bars:
        received = bars.add("receiving")
        with open(target, "wb") if isinstance(target, str) else nullcontext(target) as file:
            for client, name in servers.holding(hashes, output):
                with each(client, output, hash=name.hash):
                    _write(client, name, file, received)
    sys.exit(output.status)


def _write(client: "Client", name: "Name", file: BinaryIO, received: Bar) -> None:
    with client.open(name.text, progress=meter(received.advance)) as download:
        received.expect(download.size or 0)
        for data in download.pieces():
            file.write(data)
        file.flush()


def _is_stream(path: str) -> bool:
    """Whether a path is a pipe or a device, which a rename would replace."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _is_directory(path: str) -> bool:
    return path.endswith("/") or os.path.isdir(path)


def _paths(wanted: Iterable[Wanted], target: str | None) -> Iterator[Job]:
    """Yield blobs with their paths, by the names in their URLs or their hashes; each path once."""
    seen: set[str] = set()
    for client, name in wanted:
        own = name.file_name or name.hash
        # A server must not choose another directory or a hidden file.
        if "/" in own or "\0" in own or own.startswith("."):
            own = name.hash
        path = own
        if target is not None:
            path = os.path.join(target, own) if _is_directory(target) else target
        # A list names a file twice that was uploaded twice.
        if path not in seen:
            seen.add(path)
            yield (client, name), path
