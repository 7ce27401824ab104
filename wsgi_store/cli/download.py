"""Commands that bring blobs from a server: get, cat."""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from wsgi_store.cli.output import Output, quiet_option
from wsgi_store.cli.parallel import in_parallel
from wsgi_store.cli.progress import Bar, meter
from wsgi_store.cli.servers import STDIN, Servers, each, hashes_argument, remote

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
    help="The file to write, or the directory for several; - for standard output.  [default: HASH, here]",
)
@click.option("-f", "--force", is_flag=True, help="Replace files that are there.")
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
def get(hashes: tuple[str, ...], target: str | None, force: bool, jobs: int, **options: Any) -> None:
    """Download blobs to files; prints the path of each.

    Each HASH may also be the URL of a blob, with a signed link perhaps, or - for a list on
    standard input, a line each, as `put`, `ls` and `link` print them. A file is called as its URL
    says, else by its hash.

    The bytes are compared with the hash before a file takes its name. What has come of a
    download that is cut off stays in FILE.part, and the next one carries on from there.
    """
    if target is not None and (target == STDIN or _is_stream(target)):
        cat_to(sys.stdout.buffer if target == STDIN else target, hashes, options)
    output = Output(["path"])
    with Servers(**options, connections=jobs) as servers, output.progress() as bars:
        wanted: Iterable[Wanted] = servers.holding(hashes, output)
        if target is not None and not _is_directory(target):
            wanted = list(islice(wanted, 2))
            if len(wanted) > 1:
                raise click.UsageError("-o names a file, and there are several blobs: name a directory")
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

    Each HASH may also be the URL of a blob, or - for a list on standard input. The last bytes of
    a blob are written when all of them were compared with its hash.
    """
    cat_to(sys.stdout.buffer, hashes, options)


def cat_to(target: BinaryIO | str, hashes: Iterable[str], options: dict[str, Any]) -> None:
    """Write blobs to a stream, or to a file that is one; ends the command."""
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
    """Whether a path is that of a pipe or a device, to which no file can be moved."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _is_directory(path: str) -> bool:
    return path.endswith("/") or os.path.isdir(path)


def _paths(wanted: Iterable[Wanted], target: str | None) -> Iterator[Job]:
    """Blobs and the paths that they go to: in a directory by the names in their URLs, or their hashes."""
    told: set[str] = set()
    for client, name in wanted:
        own = name.file_name or name.hash
        # What would be in another directory, or hidden, is no name to take from others.
        if "/" in own or "\0" in own or own.startswith("."):
            own = name.hash
        path = own
        if target is not None:
            path = os.path.join(target, own) if _is_directory(target) else target
        # A list may name a file twice that was uploaded twice.
        if path not in told:
            told.add(path)
            yield (client, name), path
