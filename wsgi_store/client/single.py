"""Uploads of one file by a request of its own, if the server lacks it."""

from typing import Any

from wsgi_store.client.blobs import Uploaded
from wsgi_store.client.held import Held, chosen
from wsgi_store.client.source import Progress, Source
from wsgi_store.client.upload import Uploader
from wsgi_store.digest import Algorithm
from wsgi_store.errors import BadRequest, BlobNotFound, DigestCollision, DigestMismatch, UnexpectedDigest


class Singles:
    """Uploads files that the server lacks; threads may share it.

    With `force` it uploads those that the server has, too; with `dry_run` it uploads none.
    """

    def __init__(self, uploader: Uploader, held: Held, *, force: bool, dry_run: bool) -> None:
        self._uploader = uploader
        self._transport = uploader.transport
        self._held = held
        self._force = force
        self._dry_run = dry_run

    def send(self, file: Any, hashing: Progress | None, progress: Progress | None) -> Uploaded:
        """Upload a file from its position to its end; raises OSError and what `Client.put` raises."""
        known = self._uploader.kept.algorithms()
        body = Source(file, known[0], progress)
        try:
            return self._sent(body, *chosen(known), hashing, progress)
        except (BadRequest, BlobNotFound, DigestCollision):
            now = self._uploader.kept.algorithms()
            if now == known or not body.rewindable:
                raise
            # The server was migrated after the file was hashed.
            body.rewind()
            return self._sent(Source(file, now[0], progress), *chosen(now), hashing, progress)

    def _sent(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self,
        body: Source,
        primary: Algorithm,
        strong: Algorithm | None,
        hashing: Progress | None,
        progress: Progress | None,
    ) -> Uploaded:
        if not self._dry_run and (self._force or strong is None or not body.rewindable):
            return self._uploader.upload(body, force=self._force)
        with self._transport.broken():
            digests = body.hash(primary, strong or primary, progress=hashing)
        size = body.done
        lacks = True
        if strong is not None and not self._force:
            lacks = bool(self._held.lacking({digests[strong].hex: size}, singly=True))
        if self._dry_run or not lacks:
            if progress is not None:
                progress(size)
            names = {algorithm.value: digest.hex for algorithm, digest in digests.items()}
            hash_ = digests[primary].hex
            return Uploaded(hash_, size, f"{self._transport.base}/{hash_}", names, created=lacks)
        body.wanted = digests[strong or primary]
        body.rewind()
        try:
            return self._uploader.upload(body, force=self._force)
        except UnexpectedDigest:
            raise
        except DigestMismatch as error:
            raise DigestMismatch(
                "the file changed while it was sent", expected=error.expected, actual=error.actual
            ) from None
