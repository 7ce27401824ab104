"""The client of a server; the extra `client` installs what it needs."""

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
from wsgi_store.client.names import HASH, checked, parse_name
from wsgi_store.client.retries import Retries
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


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A blob on a server."""

    hash: str
    size: int
    """In bytes."""
    url: str


@dataclass(frozen=True, slots=True)
class Uploaded(RemoteBlob):
    """An uploaded blob."""

    created: bool
    """Whether the upload added it; false also if a first attempt did, whose answer was lost."""
    healed: bool = False
    """Whether the upload replaced a damaged copy."""


class Client:
    """A client of the server at a URL, which includes the prefix that the service is mounted under.

    It authenticates with `token`, else with user name and password in the URL, else with those in
    ~/.netrc ($NETRC). `timeout` is how long a connection may be idle, in seconds. The client tries
    again up to `retries` times when a connection breaks or the server answers 503; the first pause
    takes about `first_pause` seconds, later ones grow to 30, and Retry-After (RFC 9110 section
    10.2.3) is obeyed up to 120. Every request is safe to repeat. Threads may share a client;
    `connections` is how many connections it keeps open.

    A blob is given by its hash or by its URL on this server, which may carry a signed link.

    The constructor raises ConfigError. Every method raises Unreachable, UnexpectedAnswer, and the
    classes of `wsgi_store.errors` that the server reports; a method that takes a blob raises
    MalformedHash.
    """

    def __init__(  # pylint: disable=too-many-arguments
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 4,
        first_pause: float = 0.5,
        connections: int = 10,
    ) -> None:
        self._transport = Transport(
            url, token, timeout=timeout, connections=connections, retries=Retries(retries, first_pause)
        )
        self._algorithm: Algorithm | None = None
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end all pauses; a request that waits to be repeated fails."""
        self._transport.close()

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the server's hashes; asks the server once."""
        with self._lock:
            if self._algorithm is None:
                told = self._transport.ask("GET", "")
                try:
                    self._algorithm = Algorithm(told.get("algorithm"))
                except ValueError:
                    raise self._transport.strange() from None
            return self._algorithm

    def check(self) -> None:
        """Ask the server once whether it is ready (`GET /readyz`); raises the reason why it is not."""
        self._transport.send("GET", "readyz").close()

    def url(self, hash_: str) -> str:
        """Return the URL of a blob, without asking the server."""
        return f"{self._transport.base}/{hash_}"

    def put(
        self,
        source: "str | os.PathLike[str] | Buffer | SupportsRead[bytes] | Iterable[Buffer]",
        *,
        hash_: str | None = None,
        progress: Progress | None = None,
    ) -> Uploaded:
        """Upload the file at a path, the rest of an open file, a buffer, or the bytes of an iterable.

        The client hashes what it sends, and raises UnexpectedDigest, a DigestMismatch, if the
        server answers another hash. With `hash_` the server stores only the file with that hash
        and otherwise reports DigestMismatch. `progress` is called with the number of bytes sent
        so far. A source that cannot be rewound is sent only once. Raises OSError if the source
        cannot be read.
        """
        with reading(source) as file:
            body = Source(file, self.algorithm, progress)
            told = self._transport.ask("POST", f"?hash={quote(hash_)}" if hash_ else "", body)
        return self._stored(body, told)

    def _stored(self, body: Source, told: dict[str, Any]) -> Uploaded:
        """Read the server's answer to an upload, and compare it with what was sent."""
        blob, digest = self._blob(told), body.digest()
        named = told.get("algorithm", digest.algorithm.value)
        if blob.hash != digest.hex or named != digest.algorithm.value:
            with self._lock:
                self._algorithm = None  # the server may have changed its algorithm
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
        """Open a blob as a binary file; raises BlobNotFound. `Download` says what reading it raises."""
        return Download(Remote(self._transport, *self._named(blob), progress))

    def get_bytes(self, blob: str) -> bytes:
        """Return the bytes of a blob; raises BlobNotFound, and DigestMismatch if they are damaged."""
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
        """Download a blob to a file, which appears only when all its bytes are checked.

        Until then they are in `path`.part; the next call continues an interrupted download there.
        `progress` is called with the number of bytes received so far. Raises BlobNotFound,
        DigestMismatch, FileExistsError if `path` exists and `force` is false, and OSError if the
        file cannot be written.
        """
        digest, below = self._named(blob)
        size = save(
            lambda known: Download(Remote(self._transport, digest, below, progress, known)),
            os.fspath(path),
            force=force,
        )
        return RemoteBlob(digest.hex, size, self.url(digest.hex))

    def stat(self, blob: str) -> RemoteBlob:
        """Return size and URL of a blob; raises BlobNotFound."""
        digest, below = self._named(blob)
        hash_ = digest.hex
        try:
            length = self._transport.ask("HEAD", below).get("content-length", "")
        except NotFound:  # an answer to HEAD has no body, so no code
            raise BlobNotFound(hash=hash_) from None
        except (Denied, Unauthenticated):  # a GET tells which scope is missing
            self._transport.send("GET", below, headers={"Range": "bytes=0-0"}).close()
            raise
        if not re.fullmatch("[0-9]{1,18}", length):
            raise self._transport.strange()
        return RemoteBlob(hash_, int(length), self.url(hash_))

    def exists(self, blob: str) -> bool:
        """Return whether the server has a blob."""
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
            self._transport.retries.repeat(attempt)
        except BlobNotFound:
            # An earlier attempt, whose answer was lost, may have removed it.
            if sent == 1:
                raise

    def list(
        self, after: str | None = None, limit: int | None = None, *, page_size: int = 1000
    ) -> Iterator[RemoteBlob]:
        """Yield the blobs whose hashes are greater than `after`, in order, at most `limit`.

        It asks for `page_size` blobs at a time; the server accepts 1 to 1000.
        """
        while limit is None or limit > 0:
            asked = page_size if limit is None else min(limit, page_size)
            behind = f"&after={quote(after)}" if after else ""
            told = self._transport.ask("GET", f"files?limit={asked}{behind}")
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
            # A server that repeats a page would be asked forever.
            if (after or "") <= (before or ""):
                raise self._transport.strange()
            if limit is not None:
                limit -= asked

    def _named(self, blob: str) -> tuple[Digest, str]:
        """Return the digest of a blob, and its path below the server's URL."""
        name = parse_name(blob)
        if name.server is not None and base(parse(name.server)) != self._transport.base:
            raise ConfigError(f"{base(parse(name.server))} is another server than {self._transport.base}")
        hash_ = checked(name.hash, self.algorithm)
        return self.algorithm.parse(hash_), hash_ + name.rest

    def _blob(self, told: Any) -> RemoteBlob:
        match told:
            case {"hash": str() as hash_, "size": int() as size} if HASH.fullmatch(hash_) and size >= 0:
                return RemoteBlob(hash_, size, self.url(hash_))
        raise self._transport.strange()
