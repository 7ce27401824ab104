"""The command that uploads files: put."""

import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from wsgi_store.cli.find import Excluded, find
from wsgi_store.cli.options import quiet_option, remote
from wsgi_store.cli.output import Output, size_of
from wsgi_store.cli.parallel import in_parallel
from wsgi_store.cli.progress import Bar, meter
from wsgi_store.cli.servers import STDIN, connect, each
from wsgi_store.digest import Algorithm, Digest, parse_any
from wsgi_store.errors import (
    BadRequest,
    BlobNotFound,
    Denied,
    DigestCollision,
    DigestMismatch,
    MalformedHash,
    Unauthenticated,
    UnexpectedDigest,
)
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
    """
    if hash_ is not None and (len(files) > 1 or os.path.isdir(files[0])):
        raise click.UsageError("--hash is for one file")
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
        try:
            wanted = None if hash_ is None else parse_any(client.algorithms, hash_)
        except ValueError as error:
            raise MalformedHash(f"malformed hash: {error}") from None
        upload = _Upload(client, hashing, sending, wanted, force=force, dry_run=dry_run)
        paths = find(files, recursive, excluded, output.failed, output.note)
        with told_of_interruption(upload.can_continue, output):
            for done in in_parallel(upload, paths, jobs):
                rows: list[dict[str, object]] = []
                try:
                    for path, outcome in done:
                        with each(client, output, OSError, path=path):
                            blob = outcome.result()
                            rows.append(_row(path, blob, dry_run))
                            _remark(path, blob, output)
                finally:
                    output.rows(rows)
    sys.exit(output.status)


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


class _Upload:
    """Uploads files that the server lacks; threads share it."""

    def __init__(  # pylint: disable=too-many-arguments
        self,
        client: "Client",
        hashing: Bar,
        sending: Bar,
        wanted: Digest | None,
        *,
        force: bool,
        dry_run: bool,
    ) -> None:
        self._client = client
        self._hashing = hashing
        self._sending = sending
        self._wanted = wanted
        self._dry_run = dry_run
        self._force = force
        self._may_ask = not force
        self._large: set[int] = set()

    def can_continue(self) -> bool:
        """Whether another start continues an upload that is running now."""
        return bool(self._large) and self._client.resumes

    def __call__(self, path: str) -> "Uploaded":
        """Upload the file at a path; raises OSError and what the client raises."""
        from wsgi_store.client import source  # pylint: disable=import-outside-toplevel  # slow to import

        if path == STDIN:
            source.check_end(sys.stdin.buffer)
            return self._stream(sys.stdin.buffer)
        with source.opened(path) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return self._stream(file)
            algorithm = self._client.algorithm
            try:
                return self._file(file, algorithm)
            except (BadRequest, BlobNotFound, DigestCollision):
                changed = self._client.algorithm
                if changed is algorithm:
                    raise
                # The server was migrated after the file was hashed.
                file.seek(0)
                return self._file(file, changed)

    def _stream(self, file: BinaryIO) -> "Uploaded":
        if self._dry_run:
            sizes: list[int] = []
            digest = self._hash(file, self._client.algorithm, sizes.append)
            if known := self._known(digest, sum(sizes)):
                return known
        return self._put(file, self._wanted)

    def _file(self, file: BinaryIO, algorithm: Algorithm) -> "Uploaded":
        size = os.fstat(file.fileno()).st_size
        if size <= SEND_UNASKED:
            # Read once, to hash and to send it; to its end, because files in /proc claim to have no bytes.
            data = file.read()
            digest = self._hash(io.BytesIO(data), algorithm, lambda size: None)
            # Asking first would cost a request, unless nothing is sent anyway.
            known = self._known(digest, len(data)) if self._dry_run else None
            return known or self._put(data, digest)
        digest = self._hash(file, algorithm, self._hashing.advance)
        file.seek(0)
        if known := self._known(digest, size):
            self._sending.advance(size)
            return known
        from wsgi_store.client.resume import LEAST  # pylint: disable=import-outside-toplevel  # slow

        if size > LEAST:
            self._large.add(get_ident())
        try:
            return self._put(file, digest)
        finally:
            self._large.discard(get_ident())

    def _hash(self, file: BinaryIO, algorithm: Algorithm, advance: Callable[[int], None]) -> Digest:
        hasher = Hasher(algorithm, () if self._wanted is None else (self._wanted,))
        while data := file.read(READ_SIZE):
            hasher.update(data)
            advance(len(data))
        return hasher.finish()

    def _put(self, source: BinaryIO | bytes, digest: Digest | None) -> "Uploaded":
        wanted = self._wanted or digest
        advance = meter(self._sending.advance)
        try:
            return self._client.put(
                source, hash_=None if wanted is None else wanted.hex, force=self._force, progress=advance
            )
        except UnexpectedDigest:
            raise
        except DigestMismatch as error:
            if digest is None:
                raise
            raise DigestMismatch(
                "the file changed while it was sent", expected=error.expected, actual=error.actual
            ) from None

    def _known(self, digest: Digest, size: int) -> "Uploaded | None":
        """Return what the server has, or with --dry-run would have; None if the file must be sent."""
        from wsgi_store.client import Uploaded  # pylint: disable=import-outside-toplevel  # slow to import

        if self._may_ask:
            try:
                blob = self._client.stat(digest.hex)
                # After a migration a name by the old algorithm may be that of another file.
                if blob.size == size and self._client.algorithm is digest.algorithm:
                    return Uploaded(blob.hash, blob.size, blob.url, blob.names, created=False)
            except BlobNotFound:
                pass
            except (Denied, Unauthenticated):
                self._may_ask = False
        if self._dry_run:
            names = {digest.algorithm.value: digest.hex}
            return Uploaded(digest.hex, size, self._client.url(digest.hex), names, created=True)
        return None
