"""`put --hash`: the upload of one file that must have a certain hash."""

import os
import stat
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from wsgi_store.cli.progress import Bar, meter
from wsgi_store.cli.servers import STDIN
from wsgi_store.digest import Digest, parse_any
from wsgi_store.errors import BlobNotFound, Denied, MalformedHash, Unauthenticated
from wsgi_store.hashing import Hasher

if TYPE_CHECKING:
    from wsgi_store.client import Client, Uploaded

# Bytes that are read and hashed at once.
READ_SIZE = 1 << 20


class Announced:
    """Uploads a file if it has a hash, by any algorithm of the server; raises MalformedHash."""

    def __init__(  # pylint: disable=too-many-arguments
        self, client: "Client", hash_: str, hashing: Bar, sending: Bar, *, force: bool, dry_run: bool
    ) -> None:
        try:
            self._wanted = parse_any(client.algorithms, hash_)
        except ValueError as error:
            raise MalformedHash(f"malformed hash: {error}") from None
        self._client = client
        self._hashing = hashing
        self._sending = sending
        self._force = force
        self._dry_run = dry_run

    def upload(self, path: str) -> "Uploaded":
        """Upload the file at a path; a regular one without this hash is not sent.

        Raises DigestMismatch, OSError and what `Client.put` raises.
        """
        from wsgi_store.client import source  # pylint: disable=import-outside-toplevel  # slow to import

        if path == STDIN:
            source.check_end(sys.stdin.buffer)
        with nullcontext(sys.stdin.buffer) if path == STDIN else source.opened(path) as file:
            if self._dry_run or (path != STDIN and stat.S_ISREG(os.fstat(file.fileno()).st_mode)):
                hasher = Hasher(self._client.algorithm, (self._wanted,))
                size = 0
                while data := file.read(READ_SIZE):
                    hasher.update(data)
                    self._hashing.advance(len(data))
                    size += len(data)
                if (known := self._known(hasher.finish(), size)) is not None:
                    self._sending.advance(size)
                    return known
                file.seek(0)
            return self._client.put(
                file, hash_=self._wanted.hex, force=self._force, progress=meter(self._sending.advance)
            )

    def _known(self, digest: Digest, size: int) -> "Uploaded | None":
        """Return what the server has, or with --dry-run would have; None if the file must be sent."""
        from wsgi_store.client import Uploaded  # pylint: disable=import-outside-toplevel  # slow to import

        # By a weak hash only the server can tell whether it leads to another file: by the bytes.
        if not self._force and (self._dry_run or self._wanted.algorithm.collision_resistant):
            try:
                blob = self._client.stat(digest.hex)
            except (BlobNotFound, Denied, Unauthenticated):
                pass
            else:
                # After a migration a name by the old algorithm may be that of another file.
                if blob.size == size and self._client.algorithm is digest.algorithm:
                    return Uploaded(blob.hash, blob.size, blob.url, blob.names, created=False)
        if not self._dry_run:
            return None
        names = {digest.algorithm.value: digest.hex}
        return Uploaded(digest.hex, size, self._client.url(digest.hex), names, created=True)
