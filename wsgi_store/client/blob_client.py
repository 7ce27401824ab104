"""Blobs on a server: upload, download, look up, list, remove."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from wsgi_store.client.address import base, parse
from wsgi_store.client.blobs import RemoteBlob, Uploaded, blob_in, names_in
from wsgi_store.client.download import Download, Remote
from wsgi_store.client.kept import Kept
from wsgi_store.client.many import Sending
from wsgi_store.client.missing import missing
from wsgi_store.client.names import checked, parse_name
from wsgi_store.client.repair import mend
from wsgi_store.client.retries import Retries
from wsgi_store.client.save import save
from wsgi_store.client.source import Progress, Source, open_path, reading
from wsgi_store.client.transport import Transport
from wsgi_store.client.upload import Uploader
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, ConfigError, Denied, MalformedHash, NotFound, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import SupportsRead
    from typing_extensions import Buffer

S = TypeVar("S")


class BlobClient:
    """The part of a client that moves single blobs and many; `Client` says how it behaves."""

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
        self._kept = Kept(self._transport)
        self._uploader = Uploader(self._transport, self._kept)

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
        """The primary algorithm of the server's hashes."""
        return self.algorithms[0]

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """The algorithms of the hashes that the server finds blobs by, the primary one first.

        The client asks for them once, and again when an answer shows that they changed.
        """
        return self._kept.algorithms()

    @property
    def resumes(self) -> bool:
        """Whether the server keeps uploads that break off, as far as is known."""
        return self._kept.resumes

    @property
    def continues(self) -> bool:
        """Whether a file is sent now whose upload would continue at its next start."""
        return self._uploader.resuming.under_way

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
        force: bool = False,
        progress: Progress | None = None,
    ) -> Uploaded:
        """Upload the file at a path, the rest of an open file, a buffer, or the bytes of an iterable.

        The client hashes the bytes, and raises UnexpectedDigest, a DigestMismatch, if the server
        answers another hash. With `hash_`, by any of the server's algorithms, the server stores only
        the file with that hash; otherwise it reports DigestMismatch, and DigestCollision if it found
        a different file by that hash. `progress` is called with the number of bytes sent so far,
        those included that the server had. A source that cannot be rewound is sent only once. Raises
        MalformedHash, and OSError if the source cannot be read.

        A source above 16 MiB that can be rewound is read twice, unless `hash_` is given: it is hashed
        first. Its upload continues where it broke off, also one by another process, and a file that
        the server has is not sent, except with `force`. Raises DigestMismatch if the file changes
        meanwhile.
        """
        try:
            wanted = None if hash_ is None else self._kept.find(checked(hash_))
        except ValueError as error:
            raise MalformedHash(f"malformed hash: {error}") from None
        with reading(source) as file:
            return self._uploader.upload(Source(file, self.algorithm, progress, wanted), force=force)

    def put_many(  # pylint: disable=too-many-arguments
        self,
        sources: "Iterable[S]",
        *,
        opener: Callable[[S], int] | None = None,
        force: bool = False,
        dry_run: bool = False,
        jobs: int = 4,
        hashing: Progress | None = None,
        progress: Progress | None = None,
    ) -> "Sending[S]":
        """Upload many files in much less time than `put`; iterating over the result sends them.

        It gives a `Sent` for each source, in their order: its `outcome` is the upload, or the exception
        that `put` would have raised. Sources are what `put` takes. `opener` opens those that are paths: it
        gets the source, a str or an os.PathLike, and returns a descriptor. Each is opened before the next
        one is taken from `sources`. What `sources` itself raises is raised.

        Files up to 256 KiB are collected in memory, 256 of them or 4 MiB. The server is asked which it
        lacks, and gets these in one request. Larger ones are hashed, and sent if the server lacks them.
        Files that it has count as uploaded now. If no hash of the server is collision resistant, files
        that it has are sent, too; with `force` they are in any case. With `dry_run` nothing is sent, and
        `created` tells whether it would be. `jobs` requests are under way at once. `hashing` is called with
        the number of bytes of large files that are hashed so far, `progress` with the number of bytes of
        all files that are done, by any thread.

        Servers and proxies that do not support this get each file in a request of its own. To leave the
        loop cancels what has not begun.
        """
        return Sending(
            self._uploader,
            sources,
            opener=opener or open_path,
            force=force,
            dry_run=dry_run,
            jobs=jobs,
            hashing=hashing,
            progress=progress,
        )

    def missing(self, blobs: "Iterable[str | tuple[str, int]]", *, renew: bool = False) -> Iterator[str]:
        """Yield the hashes of those blobs that the server lacks, in lower case, each once in 10,000.

        A blob is given by a hash, or by a hash and its size in bytes: one of another size is missing. With
        `renew`, which needs the sizes, the others count as uploaded now; those by md5 or sha1 are missing.
        They are asked for as the result is iterated over. Raises MalformedHash, BadRequest for a hash by
        an algorithm that the server does not keep, and Unsupported if the server is too old.
        """
        return missing(self._transport, blobs, renew=renew)

    def open(self, blob: str, *, progress: Progress | None = None) -> Download:
        """Open a blob as a binary file; raises BlobNotFound. `Download` says what reading it raises."""
        return Download(Remote(self._transport, self._kept, *self._named(blob), progress=progress))

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

        Until then they are in `path`.part; the next call continues an interrupted download there. If bytes
        are wrong, a file of at least 16 MiB gets only its wrong pieces again, where the server knows their
        hashes; otherwise a download that was continued begins again.
        `progress` is called with the number of bytes received so far. Raises BlobNotFound,
        DigestMismatch, FileExistsError if `path` exists and `force` is false, and OSError if the
        file cannot be written.
        """
        digest, below = self._named(blob)
        size = save(
            lambda known: Download(
                Remote(self._transport, self._kept, digest, below, progress=progress, known=known)
            ),
            partial(mend, self._transport, digest, below),
            os.fspath(path),
            force=force,
        )
        return RemoteBlob(digest.hex, size, self.url(digest.hex), names_in("", digest))

    def stat(self, blob: str) -> RemoteBlob:
        """Return size, URL and names of a blob; raises BlobNotFound."""
        digest, below = self._named(blob)
        hash_ = digest.hex
        try:
            fields = self._transport.ask("HEAD", below)
        except NotFound:  # an answer to HEAD has no body, so no code
            raise BlobNotFound(hash=hash_) from None
        except (Denied, Unauthenticated):  # a GET tells which scope is missing
            self._transport.send("GET", below, headers={"Range": "bytes=0-0"}).close()
            raise
        length = fields.get("content-length", "")
        if not re.fullmatch("[0-9]{1,18}", length):
            raise self._transport.strange()
        names = names_in(fields.get("repr-digest", ""), digest)
        self._kept.compare(names)
        return RemoteBlob(hash_, int(length), self.url(hash_), names)

    def exists(self, blob: str) -> bool:
        """Return whether the server has a blob."""
        try:
            self.stat(blob)
        except BlobNotFound:
            return False
        return True

    def delete(self, blob: str) -> Mapping[str, str]:
        """Remove a blob with all its names; returns those that the server told. Raises BlobNotFound."""
        digest, _ = self._named(blob)
        sent = 0

        def attempt() -> dict[str, Any]:
            nonlocal sent
            sent += 1
            return self._transport.once("DELETE", digest.hex)

        try:
            told = self._transport.retries.repeat(attempt)
        except BlobNotFound:
            # An earlier attempt, whose answer was lost, may have removed it.
            if sent == 1:
                raise
            return names_in("", digest)
        return blob_in(told, self._transport, self._kept).names

    def list(
        self, after: str | None = None, limit: int | None = None, *, prefix: str = "", page_size: int = 1000
    ) -> Iterator[RemoteBlob]:
        """Yield the blobs whose hashes are greater than `after` and begin with `prefix`, at most `limit`.

        They come in order. The hashes are those by the algorithm of `after`; without it by the primary
        algorithm or, while the server is migrated, by the one before. It asks for `page_size` blobs at a
        time; the server accepts 1 to 1000.
        """
        begins = f"&prefix={quote(prefix)}" if prefix else ""
        while limit is None or limit > 0:
            asked = page_size if limit is None else min(limit, page_size)
            behind = f"&after={quote(after)}" if after else ""
            told = self._transport.ask("GET", f"files?limit={asked}{behind}{begins}")
            entries = told.get("files")
            if not isinstance(entries, list):
                raise self._transport.strange()
            before = after
            for entry in entries:
                blob = blob_in(entry, self._transport, self._kept)
                if not blob.hash.startswith(prefix.lower()):
                    raise self._transport.strange()
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
        try:
            return self._kept.find(name.hash), name.hash + name.rest
        except ValueError:
            kept = [algorithm.value for algorithm in self.algorithms]
            told = f"no blob {name.hash} in this store: its hashes are of {' or '.join(kept)}"
            raise BlobNotFound(told, hash=name.hash, algorithms=kept) from None
