"""Talking to a server from Python; installed with the extra `client`."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from wsgi_store.client.address import base, parse
from wsgi_store.client.download import Download, Remote
from wsgi_store.client.names import HASH, checked, read
from wsgi_store.client.save import save
from wsgi_store.client.source import Progress, Source, reading
from wsgi_store.client.transport import Transport
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import (
    BlobNotFound,
    ConfigError,
    Denied,
    NotFound,
    Unauthenticated,
    UnexpectedDigest,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import SupportsRead
    from typing_extensions import Buffer

PAGE = 1000


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A blob on a server: its hash, its size in bytes, its URL."""

    hash: str
    size: int
    url: str


@dataclass(frozen=True, slots=True)
class Uploaded(RemoteBlob):
    """A blob that was uploaded, and whether the server lacked it.

    When an answer was lost and the upload repeated, the server has it from the first time.
    """

    created: bool
    healed: bool = False
    """Whether the server had it, damaged, and has it whole now."""


class Client:
    """A server, by its URL with the prefix it is mounted under.

    Credentials are the `token`, else user name and password in the URL, else those in ~/.netrc
    (or $NETRC). `timeout` is how long, in seconds, a connection may stand still. What may pass,
    a broken connection or 503, is tried again up to `retries` times; all that is done here does
    no harm when it is done twice. May be used by any number of threads; `connections` is how
    many are kept open.

    Blobs are named by their hashes, or by their URLs below that of the server, with a signed link
    perhaps; MalformedHash is raised where that is not so.

    Every method raises the failures of `wsgi_store.errors` that the server tells by their codes,
    Unreachable and UnexpectedAnswer. The constructor raises ConfigError.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 4,
        connections: int = 10,
    ) -> None:
        self._transport = Transport(url, token, timeout=timeout, retries=retries, connections=connections)
        self._algorithm: Algorithm | None = None
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    @property
    def algorithm(self) -> Algorithm:
        """What the server names blobs by; asked once."""
        with self._lock:
            if self._algorithm is None:
                told = self._transport.ask("GET", "")
                try:
                    self._algorithm = Algorithm(told.get("algorithm"))
                except ValueError:
                    raise self._transport.strange() from None
            return self._algorithm

    def check(self) -> None:
        """Ask once whether the server can take a file now; raises what keeps it from that."""
        self._transport.send("GET", "readyz").close()

    def url(self, hash_: str) -> str:
        """Where a blob is."""
        return f"{self._transport.base}/{hash_}"

    def put(
        self,
        source: "str | os.PathLike[str] | Buffer | SupportsRead[bytes] | Iterable[Buffer]",
        *,
        hash_: str | None = None,
        progress: Progress | None = None,
    ) -> Uploaded:
        """Upload a file by its path, the rest of an open file, bytes of any kind, or what is yielded.

        The bytes are hashed here while they are sent: raises UnexpectedDigest, a DigestMismatch,
        when the server answers another hash. With `hash_` it stores nothing else than the file
        with that hash. What cannot be rewound is not sent twice. Raises OSError when the file
        cannot be read.
        """
        with reading(source) as file:
            body = Source(file, self.algorithm, progress)
            told = self._transport.ask("POST", f"?hash={quote(hash_)}" if hash_ else "", body)
        return self._stored(body, told)

    def _stored(self, body: Source, told: dict[str, Any]) -> Uploaded:
        """What a server says it stored, if that is what was sent."""
        blob, digest = self._blob(told), body.digest()
        named = told.get("algorithm", digest.algorithm.value)
        if blob.hash != digest.hex or named != digest.algorithm.value:
            with self._lock:
                self._algorithm = None  # the server may name blobs by another one since it was asked
            actual = f"{named}:{blob.hash}"
            raise UnexpectedDigest(
                f"{self._transport.base} answers {actual} to an upload of {digest}",
                expected=digest,
                actual=actual,
            )
        match told:
            case {"created": bool() as created, **others} if blob.size == body.done:
                return Uploaded(blob.hash, blob.size, blob.url, created, others.get("healed") is True)
        raise self._transport.strange()

    def open(self, blob: str, *, progress: Progress | None = None) -> Download:
        """Open a blob to read it; raises BlobNotFound. See `Download` for what reading raises."""
        return Download(Remote(self._transport, *self._named(blob), progress))

    def get_bytes(self, blob: str) -> bytes:
        """The bytes of a blob, which must fit in memory; raises BlobNotFound and DigestMismatch."""
        with self.open(blob) as download:
            return download.read()

    def get(
        self,
        blob: str,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> RemoteBlob:
        """Download a blob to a file, which appears whole and checked; `force` replaces one.

        What comes of it until then is `path`.part, from which the next call carries on. Raises
        BlobNotFound, DigestMismatch, OSError when the file cannot be written and FileExistsError
        when it is there.
        """
        digest, below = self._named(blob)
        size = save(
            lambda known: Download(Remote(self._transport, digest, below, progress, known)),
            os.fspath(path),
            force=force,
        )
        return RemoteBlob(digest.hex, size, self.url(digest.hex))

    def stat(self, blob: str) -> RemoteBlob:
        """Describe a blob; raises BlobNotFound."""
        digest, below = self._named(blob)
        hash_ = digest.hex
        try:
            length = self._transport.ask("HEAD", below).get("content-length", "")
        except NotFound:  # without a body it has no code
            raise BlobNotFound(hash=hash_) from None
        except (Denied, Unauthenticated):  # nor what is missing
            self._transport.send("GET", below, headers={"Range": "bytes=0-0"}).close()
            raise
        if not re.fullmatch("[0-9]{1,18}", length):
            raise self._transport.strange()
        return RemoteBlob(hash_, int(length), self.url(hash_))

    def exists(self, blob: str) -> bool:
        """Whether the server has a blob."""
        try:
            self.stat(blob)
        except BlobNotFound:
            return False
        return True

    def delete(self, blob: str) -> None:
        """Remove a blob; raises BlobNotFound."""
        hash_ = self._named(blob)[0].hex
        sent = 0

        def attempt() -> None:
            nonlocal sent
            sent += 1
            self._transport.send("DELETE", hash_).close()

        try:
            self._transport.repeat(attempt)
        except BlobNotFound:
            # An earlier request may have removed it although no answer came.
            if sent == 1:
                raise

    def list(self, after: str | None = None, limit: int | None = None) -> Iterator[RemoteBlob]:
        """Yield the blobs in the order of their hashes, `limit` at most, from the one behind `after` on."""
        while limit is None or limit > 0:
            page = PAGE if limit is None else min(limit, PAGE)
            behind = f"&after={quote(after)}" if after else ""
            told = self._transport.ask("GET", f"files?limit={page}{behind}")
            entries = told.get("files")
            if not isinstance(entries, list):
                raise self._transport.strange()
            before = after
            for entry in entries:
                blob = self._blob(entry)
                yield blob
                after = blob.hash
            if told.get("next") is None:
                return
            # Who does not get on would be asked for ever.
            if (after or "") <= (before or ""):
                raise self._transport.strange()
            if limit is not None:
                limit -= page

    def _named(self, blob: str) -> tuple[Digest, str]:
        """The digest of a blob, and its path below the server's URL."""
        name = read(blob)
        if name.server is not None and base(parse(name.server)) != self._transport.base:
            raise ConfigError(f"{base(parse(name.server))} is another server than {self._transport.base}")
        hash_ = checked(name.hash, self.algorithm)
        return self.algorithm.parse(hash_), hash_ + name.rest

    def _blob(self, told: Any) -> RemoteBlob:
        match told:
            case {"hash": str() as hash_, "size": int() as size} if HASH.fullmatch(hash_) and size >= 0:
                return RemoteBlob(hash_, size, self.url(hash_))
        raise self._transport.strange()
