"""Uploads: what is sent, and how the answer is compared with it."""

from typing import Any, Protocol

from wsgi_store.client.blobs import RemoteBlob, Uploaded, blob_in
from wsgi_store.client.kept import Kept
from wsgi_store.client.resume import Resuming
from wsgi_store.client.source import Source
from wsgi_store.client.transport import Transport
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import (
    BadRequest,
    BlobNotFound,
    DigestCollision,
    DigestMismatch,
    MethodNotAllowed,
    UnexpectedDigest,
    Unsupported,
)


class SentBytes(Protocol):
    """Bytes that were sent."""

    @property
    def done(self) -> int:
        """How many they are."""

    @property
    def continued_at(self) -> int:
        """How many of them the server had at first."""

    @property
    def rewindable(self) -> bool:
        """Whether they can be read again."""

    def hash(self, *algorithms: Algorithm) -> dict[Algorithm, Digest]:
        """Read them again, and return their digests."""


class Uploader:
    """Sends files to a server; threads may share it."""

    def __init__(self, transport: Transport, kept: Kept) -> None:
        self.transport = transport
        self.kept = kept
        self.resuming = Resuming(transport, kept)

    def upload(self, body: Source, *, force: bool) -> Uploaded:
        """Upload a file, with `force` also bytes that the server has; raises UnexpectedDigest."""
        try:
            told = self.resuming.send(body, force=force) or self._whole(body, body.wanted)
        except (BadRequest, BlobNotFound, DigestCollision):
            self.kept.forget()  # the server may no longer keep the algorithm of `wanted`
            raise
        blob = blob_in(told, self.transport, self.kept)
        try:
            sent = body.digest()
        except DigestMismatch as error:
            # The server confirmed a digest that the bytes do not have.
            raise self._unexpected(error.actual, error.expected) from None
        return self.confirmed(told, blob, sent, body)

    def confirmed(self, told: dict[str, Any], blob: RemoteBlob, sent: Digest, body: SentBytes) -> Uploaded:
        """Return what an answer, read as `blob`, tells about an upload of bytes with the digest `sent`.

        Raises UnexpectedDigest if the answer tells another one, UnexpectedAnswer if it makes no sense.
        """
        if sent.algorithm.value not in blob.names:
            # The server was migrated meanwhile, or replaced, or another file has this hash.
            sent = self._hashed_again(body, sent, blob)
        if blob.names[sent.algorithm.value] != sent.hex:
            self.kept.forget()
            raise self._unexpected(sent, f"{sent.algorithm.value}:{blob.names[sent.algorithm.value]}")
        match told:
            case {"created": bool() as created, **others} if blob.size == body.done:
                match others.get("ambiguous", []):
                    case [*ambiguous] if all(isinstance(name, str) for name in ambiguous):
                        healed = others.get("healed") is True
                        return Uploaded(
                            blob.hash,
                            blob.size,
                            blob.url,
                            blob.names,
                            created,
                            healed,
                            tuple(ambiguous),
                            body.continued_at,
                        )
        raise self.transport.strange()

    def _whole(self, body: Source, wanted: Digest | None) -> dict[str, Any]:
        if wanted is None:
            return self.transport.ask("POST", "", body)
        if self.kept.puts:
            try:
                return self.transport.ask("PUT", wanted.hex, body)
            except (MethodNotAllowed, Unsupported):
                # A proxy that refuses PUT, or version 0.1.0 in the place of a newer one.
                self.kept.puts = False
                if not body.rewindable:
                    raise
        return self.transport.ask("POST", f"?hash={wanted.hex}", body)

    def _hashed_again(self, body: SentBytes, sent: Digest, blob: RemoteBlob) -> Digest:
        """Return the digest of the bytes that were sent, by the algorithm of the blob's primary name."""
        name = next(name for name, hash_ in blob.names.items() if hash_ == blob.hash)
        if not body.rewindable:
            raise UnexpectedDigest(
                f"{self.transport.base} stored this upload as {name}:{blob.hash} and names no "
                f"{sent.algorithm.value} hash of it, so that it could not be compared: send it again",
                expected=sent,
                actual=f"{name}:{blob.hash}",
            )
        try:
            algorithm = Algorithm(name)
        except ValueError:
            raise self.transport.strange() from None
        with self.transport.broken():
            return body.hash(algorithm)[algorithm]

    def _unexpected(self, sent: object, told: object) -> UnexpectedDigest:
        message = f"{self.transport.base} answers {told} to an upload of {sent}"
        return UnexpectedDigest(message, expected=sent, actual=told)
