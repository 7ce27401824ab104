"""The command that moves files to a server: put."""

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from wsgi_store.cli.output import Output
from wsgi_store.cli.parallel import in_parallel
from wsgi_store.cli.progress import meter
from wsgi_store.cli.servers import STDIN, connect, each, remote
from wsgi_store.errors import BlobNotFound, Denied, Unauthenticated

if TYPE_CHECKING:
    from wsgi_store.client import Client, Uploaded

# Up to here a file is sent without asking first whether it is there: one request is less than two.
SMALL = 1 << 20
BLOCK = 1 << 20


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@click.option(
    "-r",
    "--recursive",
    is_flag=True,
    help="Upload what is below directories; links to directories are not followed.",
)
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Uploads at the same time."
)
@remote
def put(files: tuple[str, ...], recursive: bool, jobs: int, **options: Any) -> None:
    """Upload files, or with - the standard input; prints the hash, the URL and the path of each.

    What the server has is not sent again. A file that cannot be uploaded does not keep the
    others from it: each is told of, and the status is the highest of theirs. What would keep
    all of them from it ends the command at once.
    """
    output = Output(["hash", "url", "path"])

    def complain(error: OSError) -> None:
        output.failed(error)

    with connect(**options, connections=jobs) as client:
        paths = find(files, recursive, complain)
        total = sum(map(_size, find(files, recursive, lambda error: None))) if output.live else None
        with output.progress() as bars:
            sending = bars.add("sending", total)
            for done in in_parallel(lambda path: upload(client, path, sending.advance), paths, jobs):
                rows: list[dict[str, object]] = []
                try:
                    for path, outcome in done:
                        with each(client, output, OSError, path=path):
                            rows.append(_row(path, outcome.result()))
                finally:
                    output.rows(rows)
    sys.exit(output.status)


def find(files: Iterable[str], recursive: bool, complain: Callable[[OSError], None]) -> Iterator[str]:
    """The files that are meant, those below directories in order."""
    for file in files:
        if file == STDIN or not (recursive and os.path.isdir(file)):
            yield file
            continue
        for directory, below, names in os.walk(file, onerror=complain):
            below.sort()
            for path in (os.path.join(directory, name) for name in below):
                # It may lead round in a circle; passed over in silence, files would be missed.
                if os.path.islink(path):
                    complain(OSError(errno.EISDIR, "a link to a directory is not followed", path))
            for name in sorted(names):
                path = os.path.join(directory, name)
                # Nobody means the pipes and sockets of a directory; a broken link is complained of.
                try:
                    is_meant = stat.S_ISREG(os.stat(path).st_mode)
                except OSError:
                    is_meant = True
                if is_meant:
                    yield path


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _row(path: str, blob: "Uploaded") -> dict[str, object]:
    # dataclasses.asdict takes ten times as long, which can be seen with many small files.
    return {"path": path, "hash": blob.hash, "size": blob.size, "url": blob.url, "created": blob.created}


def upload(client: "Client", path: str, advance: Callable[[int], None]) -> "Uploaded":
    """Upload a file unless the server has it; raises OSError and what the server refuses."""
    progress = meter(advance)
    if path == STDIN:
        return client.put(sys.stdin.buffer, progress=progress)
    with open(path, "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return client.put(file, progress=progress)
        if status.st_size <= SMALL:
            # Read once, and not once to be hashed and once more to be sent. To its end, for a file of the
            # kernel says that it has no bytes.
            data = file.readall()
            digest = client.algorithm.new()
            digest.update(data)
            return client.put(data, hash_=digest.hexdigest(), progress=progress)
        hash_ = hashlib.file_digest(file, client.algorithm.new).hexdigest()
        file.seek(0)
        if known := held(client, hash_, status.st_size):
            advance(status.st_size)
            return known
        return client.put(file, hash_=hash_, progress=progress)


def held(client: "Client", hash_: str, size: int) -> "Uploaded | None":
    """What the server has under a hash, if that can be asked and is as long as it should be."""
    from wsgi_store.client import Uploaded  # pylint: disable=import-outside-toplevel  # slow to import

    try:
        blob = client.stat(hash_)
    except (BlobNotFound, Denied, Unauthenticated):
        return None
    return Uploaded(blob.hash, blob.size, blob.url, False) if blob.size == size else None
