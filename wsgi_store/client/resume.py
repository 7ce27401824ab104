"""Uploads that go on where they broke off: Resumable Uploads for HTTP, as the IETF drafts it.

The client keeps nothing of its own: creating an upload of the same file again finds the unfinished one.
"""

import base64
import logging
import re
from threading import get_ident
from typing import Any

from urllib3 import BaseHTTPResponse

from wsgi_store.client.kept import Kept
from wsgi_store.client.source import Source
from wsgi_store.client.transport import Transport
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import (
    BadRequest,
    DigestMismatch,
    MethodNotAllowed,
    NotFound,
    StorageFull,
    TooManyUploads,
    Unsupported,
    UploadNotFound,
)

# Bytes above which a file is worth one more request, and hashing it first.
LEAST = 16 << 20
# Only the id counts: a proxy may change what is before it, and no other host may get the credentials.
LOCATION = re.compile(r"(?:.*/)?uploads/([0-9A-Za-z_-]+)")
OFFSET = re.compile("[0-9]{1,15}")
log = logging.getLogger(__name__)


class Resuming:
    """Sends large files to a server that keeps unfinished uploads; threads may share it."""

    def __init__(self, transport: Transport, kept: Kept) -> None:
        self._transport = transport
        self._kept = kept
        self._threads: set[int] = set()

    @property
    def under_way(self) -> bool:
        """Whether a file is sent now whose upload would continue at its next start."""
        return bool(self._threads) and self._kept.resumes

    def send(self, body: Source, *, force: bool) -> dict[str, Any] | None:
        """Send what the server lacks of a file; returns its answer, or None if the file must be sent whole.

        With `force` that is also the case if the server has the file already. Raises DigestMismatch.
        """
        if not body.rewindable or (body.size or 0) <= LEAST or not self._kept.resumes:
            return None
        if body.wanted is not None and body.wanted.algorithm.collision_resistant:
            body.known = body.wanted
            return self._send(body, [body.wanted], force)
        try:
            return self._hashed(body, force)
        except BadRequest:
            self._kept.forget()
            if body.known is None or self._kept.algorithms()[0] is body.known.algorithm:
                raise
            # The server was migrated after the file was hashed.
            return self._hashed(body, force)

    def _hashed(self, body: Source, force: bool) -> dict[str, Any] | None:
        """Hash the file, and send it.

        Files that share a weak digest are different uploads: a mixture of both could have this digest.
        """
        primary = self._kept.algorithms()[0]
        strong = primary if primary.collision_resistant else Algorithm.SHA256
        with self._transport.broken():
            digests = body.hash(primary, strong)
        body.known = digests[primary]
        wanted = body.wanted or body.known
        try:
            return self._send(body, list(dict.fromkeys([wanted, digests[strong]])), force)
        except DigestMismatch as error:
            raise DigestMismatch(
                "the file changed while it was sent", expected=error.expected, actual=error.actual
            ) from None

    def _send(self, body: Source, digests: list[Digest], force: bool) -> dict[str, Any] | None:
        attempts = _Attempts(self._transport, body, digests, self._kept.algorithms(), force=force)
        self._threads.add(get_ident())
        try:
            told = self._transport.retries.repeat(attempts, reached=lambda: attempts.reached)
        except TooManyUploads as error:
            log.warning("%s: sending this file in one request", error)
        except (MethodNotAllowed, NotFound, Unsupported, UploadNotFound):
            # A proxy that refuses this, an older server, or several that do not share their uploads.
            self._kept.resumes = False
        else:
            return told
        finally:
            self._threads.discard(get_ident())
        body.continued_at = 0
        return None


class _Attempts:
    """The attempts to send one file."""

    def __init__(  # pylint: disable=too-many-arguments
        self,
        transport: Transport,
        body: Source,
        digests: list[Digest],
        kept: tuple[Algorithm, ...],
        *,
        force: bool,
    ) -> None:
        self._transport = transport
        self._body = body
        self._size = body.size or 0
        self._strong = digests[-1]
        self._force = force
        hashes = "&".join(f"hash={digest.hex}" for digest in digests if digest.algorithm in kept)
        self._creation = f"uploads?{hashes}"
        # Without Upload-Draft-Interop-Version: servers send interim answers (104) to clients that tell one,
        # and http.client takes these for the answer.
        self._fields = {"Upload-Complete": "?0", "Upload-Length": str(self._size)}
        if self._strong.algorithm not in kept:
            raw = base64.b64encode(self._strong.raw).decode()
            self._fields["Repr-Digest"] = f"sha-256=:{raw}:"  # RFC 9530
        self.begun_at: int | None = None
        """How many bytes the server had at first; None if it needed none."""
        self.reached = 0
        """The largest offset that the server has returned."""

    def __call__(self) -> dict[str, Any] | None:
        """Send what the server lacks; returns None if that is nothing, and it is forced to take the file.

        Raises UploadNotFound if the server does not keep uploads.
        """
        try:
            return self._attempt()
        except UploadNotFound:
            # It has expired or was removed; where this happens again at once, uploads are not kept.
            pass
        except DigestMismatch:
            # An earlier start may have sent other bytes. The server has removed them.
            if not self.begun_at or self._is_changed():
                raise
            self.begun_at = self._body.continued_at = 0
        return self._attempt()

    def _is_changed(self) -> bool:
        algorithm = self._strong.algorithm
        with self._transport.broken():
            return self._body.hash(algorithm)[algorithm] != self._strong

    def _attempt(self) -> dict[str, Any] | None:
        answer = self._transport.send("POST", self._creation, headers=self._fields)
        try:
            if _is_complete(answer):
                return None if self._force and self.begun_at is None else self._result(answer)
            if "Upload-Complete" not in answer.headers:
                raise Unsupported(f"{self._transport.base} does not know resumable uploads")
            offset = OFFSET.fullmatch(answer.headers.get("Upload-Offset", ""))
            place = LOCATION.fullmatch(answer.headers.get("Location", ""))
        finally:
            answer.close()
        if offset is None or place is None or int(offset[0]) > self._size:
            raise self._transport.strange()
        self._body.seek(int(offset[0]))
        if self.begun_at is None:
            self.begun_at = self._body.continued_at = self._body.done
        self.reached = max(self.reached, self._body.done)
        return self._append(place[1], offset[0])

    def _append(self, identity: str, offset: str) -> dict[str, Any]:
        fields = {
            "Upload-Complete": "?1",
            "Upload-Offset": offset,
            "Content-Type": "application/partial-upload",
        }
        try:
            answer = self._transport.send("PATCH", f"uploads/{identity}", self._body, headers=fields)
        except StorageFull as error:
            kept = "the server keeps what has arrived, and another start continues there"
            raise StorageFull(f"{error.message}; {kept}", **error.evidence) from None
        try:
            if not _is_complete(answer):
                raise self._transport.strange()
            return self._result(answer)
        finally:
            answer.close()

    def _result(self, answer: BaseHTTPResponse) -> dict[str, Any]:
        told = self._transport.json(answer)
        self._body.seek(self._size)
        return told


def _is_complete(answer: BaseHTTPResponse) -> bool:
    return answer.headers.get("Upload-Complete") == "?1"
