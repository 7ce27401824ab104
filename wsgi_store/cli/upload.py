"""The command that uploads files: put."""

import os
import stat
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from wsgi_store.cli.find import Excluded, find
from wsgi_store.cli.options import quiet_option, remote
from wsgi_store.cli.output import Output
from wsgi_store.cli.parallel import in_parallel
from wsgi_store.cli.progress import Bar, meter
from wsgi_store.cli.servers import STDIN, connect, each
from wsgi_store.errors import BlobNotFound, Denied, Unauthenticated
from wsgi_store.hashing import Hasher

if TYPE_CHECKING:
    from wsgi_store.client import Client, Uploaded

# Bytes up to which a file is sent without asking whether the server has it: that saves a request.
SEND_UNASKED = 1 << 20
# Bytes that are read and hashed at once.
READ_SIZE = 1 << 20


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@click.option(
    "-r",
    "--recursive",
    is_flag=True,
    help="Upload the files below directories; links to directories are not followed.",
)
@click.option(
    "--exclude",
    metavar="GLOB",
    multiple=True,
    help="Skip files and directories of this name, or path below FILE if GLOB has a slash.",
)
@click.option(
    "-f", "--force", is_flag=True, help="Send files that the server has, too; this heals damaged copies."
)
@click.option("-n", "--dry-run", is_flag=True, help="Send nothing; print what would be sent.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Uploads at the same time."
)
@quiet_option
@remote
def put(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    files: tuple[str, ...],
    recursive: bool,
    exclude: tuple[str, ...],
    force: bool,
    dry_run: bool,
    jobs: int,
    **options: Any,
) -> None:
    """Upload files, or with - the standard input; prints the hash, the URL and the path of each.

    Large files that the server has are not sent again, unless its copy has another size. If a
    file cannot be uploaded, the others are uploaded still, and the exit status is the highest of
    all failures. A failure that would hit every file ends the command at once. Pipes are read to
    their end; endless devices are refused.
    """
    output = Output(["state", "hash", "url", "path"] if dry_run else ["hash", "url", "path"])
    excluded = Excluded(exclude)
    with connect(**options, connections=jobs) as client, output.progress() as bars:
        hashing, sending = bars.add("hashing"), bars.add("sending")
        if output.live:
            for path in find(files, recursive, excluded, lambda error: None, lambda path, why: None):
                size = _size(path)
                sending.expect(size)
                if size > SEND_UNASKED:
                    hashing.expect(size)
        upload = _Upload(client, hashing, sending, force=force, dry_run=dry_run)
        paths = find(files, recursive, excluded, output.failed, output.note)
        for done in in_parallel(upload, paths, jobs):
            rows: list[dict[str, object]] = []
            try:
                for path, outcome in done:
                    with each(client, output, OSError, path=path):
                        rows.append(_row(path, outcome.result(), dry_run))
            finally:
                output.rows(rows)
    sys.exit(output.status)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _row(path: str, blob: "Uploaded", dry_run: bool) -> dict[str, object]:
    # dataclasses.asdict is slow enough to matter for many small files.
    row = {"path": path, "hash": blob.hash, "size": blob.size, "url": blob.url, "created": blob.created}
    if dry_run:
        return {**row, "state": "would send" if blob.created else "there", "dry_run": True}
    return {**row, "healed": blob.healed}


class _Upload:
    """Uploads files that the server lacks; threads share it."""

    def __init__(self, client: "Client", hashing: Bar, sending: Bar, *, force: bool, dry_run: bool) -> None:
        self._client = client
        self._hashing = hashing
        self._sending = sending
        self._dry_run = dry_run
        self._may_ask = not force

    def __call__(self, path: str) -> "Uploaded":
        """Upload the file at a path; raises OSError and what the client raises."""
        from wsgi_store.client import source  # pylint: disable=import-outside-toplevel  # slow to import

        if path == STDIN:
            source.check_end(sys.stdin.buffer)
            return self._stream(sys.stdin.buffer)
        with source.opened(path) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return self._stream(file)
            if status.st_size <= SEND_UNASKED:
                return self._small(file)
            hash_ = self._hash(file, self._hashing.advance)
            file.seek(0)
            if known := self._known(hash_, status.st_size):
                self._sending.advance(status.st_size)
                return known
            return self._client.put(file, hash_=hash_, progress=meter(self._sending.advance))

    def _stream(self, file: BinaryIO) -> "Uploaded":
        if self._dry_run and (known := self._known(*self._counted(file))):
            return known
        return self._client.put(file, progress=meter(self._sending.advance))

    def _counted(self, file: BinaryIO) -> tuple[str, int]:
        sizes: list[int] = []
        return self._hash(file, sizes.append), sum(sizes)

    def _small(self, file: BinaryIO) -> "Uploaded":
        # Read once, to hash and to send it; and to its end, because files in /proc claim to have no bytes.
        data = file.read()
        digest = self._client.algorithm.new()
        digest.update(data)
        hash_ = digest.hexdigest()
        # Asking first would cost a request, unless nothing is sent anyway.
        known = self._known(hash_, len(data)) if self._dry_run else None
        return known or self._client.put(data, hash_=hash_, progress=meter(self._sending.advance))

    def _hash(self, file: BinaryIO, advance: Callable[[int], None]) -> str:
        hasher = Hasher(self._client.algorithm)
        while data := file.read(READ_SIZE):
            hasher.update(data)
            advance(len(data))
        return hasher.finish().hex

    def _known(self, hash_: str, size: int) -> "Uploaded | None":
        """Return what the server has, or with --dry-run would have; None if the file must be sent."""
        from wsgi_store.client import Uploaded  # pylint: disable=import-outside-toplevel  # slow to import

        if self._may_ask:
            try:
                blob = self._client.stat(hash_)
                if blob.size == size:
                    return Uploaded(blob.hash, blob.size, blob.url, created=False)
            except BlobNotFound:
                pass
            except (Denied, Unauthenticated):
                self._may_ask = False
        if self._dry_run:
            return Uploaded(hash_, size, self._client.url(hash_), created=True)
        return None
