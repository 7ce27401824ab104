"""Uploads of small files in memory, many by one request: a form with several files (RFC 7578)."""

import secrets
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from wsgi_store.client.blobs import Uploaded, blob_in
from wsgi_store.client.held import UNKNOWN, Held, chosen
from wsgi_store.client.kept import Kept
from wsgi_store.client.refusals import reported
from wsgi_store.client.retries import PASSING
from wsgi_store.client.source import Source, reading
from wsgi_store.client.upload import Uploader
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import Denied, FilesRefused, StoreError, TooLarge, WSGIStoreError

Outcome: TypeAlias = Uploaded | Exception

# Files and bytes of one form: more would only take memory, here and there.
FILES = 256
BYTES = 4 << 20


class Content(NamedTuple):
    """Bytes that one or more files of a batch have."""

    data: bytes
    digest: Digest
    """By the primary algorithm."""
    names: dict[str, str]
    """Their hashes, as in `Uploaded`."""

    @property
    def done(self) -> int:
        """How many bytes they are."""
        return len(self.data)

    @property
    def continued_at(self) -> int:
        """They are sent whole."""
        return 0

    @property
    def rewindable(self) -> bool:
        """They can be hashed again."""
        return True

    def hash(self, *algorithms: Algorithm) -> dict[Algorithm, Digest]:
        """Return their digests."""
        return {algorithm: _digest(algorithm, self.data) for algorithm in algorithms}


class Batch:
    """Small files that are collected, and hashed where they were read: other threads only send.

    Each of them takes turns with those threads at running Python, and would wait for its turn.
    """

    def __init__(self, kept: Kept) -> None:
        self.files = 0
        self.size = 0
        """In bytes."""
        self.failure: WSGIStoreError | None = None
        """Why the files cannot be sent."""
        self.contents: dict[Hashable, Content] = {}
        """What is in the files, equal bytes once."""
        self.keys: list[Hashable] = []
        """The key of each file's content."""
        try:
            self._primary, self._strong = chosen(kept.algorithms())
            self._primary.new()  # raises if its package is missing
            self._kind = self._primary.value  # an Enum takes long to tell it
        except WSGIStoreError as error:
            self.failure = error

    def add(self, data: bytes) -> None:
        """Collect a file."""
        self.files += 1
        self.size += len(data)
        if self.failure is None:
            primary, strong = self._primary, self._strong
            digest = _digest(primary, data)
            hash_ = digest.hex
            names = {self._kind: hash_}
            key: Hashable = self.files  # equal hashes by the other algorithms do not prove equal bytes
            if strong is primary:
                key = hash_
            elif strong is not None:
                key = names[strong.value] = _digest(strong, data).hex
            self.keys.append(key)
            self.contents[key] = Content(data, digest, names)


class Batches:
    """Uploads small files that the server lacks, by requests in the threads of `pool`; threads may share it.

    With `force` it uploads those that the server has, too; with `dry_run` it uploads none.
    """

    def __init__(self, uploader: Uploader, held: Held, pool: Executor, *, force: bool, dry_run: bool) -> None:
        self._uploader = uploader
        self._transport = uploader.transport
        self._kept = uploader.kept
        self._held = held
        self._pool = pool
        self._force = force
        self._dry_run = dry_run
        # Whether the server takes forms with several files, as far as is known.
        self._several = True

    def send(self, batch: Batch) -> list[Outcome]:
        """Upload files; returns the outcome of each."""
        if batch.failure is not None:
            return [batch.failure] * batch.files
        try:
            outcomes = self._settled(batch.contents)
        except WSGIStoreError as error:
            return [error] * batch.files
        if len(batch.contents) == batch.files:
            return [outcomes[key] for key in batch.keys]
        told: list[Outcome] = []
        for key in batch.keys:
            told.append(outcome := outcomes[key])
            # Files with equal bytes are sent once: the first one created the blob.
            if isinstance(outcome, Uploaded) and not self._dry_run:
                outcomes[key] = replace(outcome, created=False, healed=False)
        return told

    def _settled(self, contents: dict[Hashable, Content]) -> dict[Hashable, Outcome]:
        """Upload what the server lacks; raises the failure of a question that concerns all."""
        sizes = {key: len(content.data) for key, content in contents.items() if isinstance(key, str)}
        lacking: Any = contents.keys()
        # To ask about a single small file would take as long as to send it.
        if sizes and not self._force and (self._dry_run or len(sizes) > 1):
            lacking = self._pool.submit(self._held.lacking, sizes, singly=self._dry_run).result()
        outcomes: dict[Hashable, Outcome] = {}
        unsent = []
        for key, content in contents.items():
            if key in lacking and not self._dry_run:
                unsent.append(key)
            else:
                url = f"{self._transport.base}/{content.digest.hex}"
                outcomes[key] = Uploaded(
                    content.digest.hex, len(content.data), url, content.names, created=key in lacking
                )
        forms = _divided([contents[key] for key in unsent])
        outcomes.update(zip(unsent, chain.from_iterable(self._pool.map(self._sent, forms)), strict=True))
        return outcomes

    def _sent(self, contents: list[Content]) -> list[Outcome]:
        """Upload all of these; returns the outcome of each."""
        if len(contents) > 1 and self._several:
            try:
                return _Form(self._uploader, contents).send()
            except TooLarge:
                # Too much for one request, perhaps to a proxy; each file may still be small enough.
                half = len(contents) // 2
                return self._sent(contents[:half]) + self._sent(contents[half:])
            except Denied as error:
                # A proxy may block what is in one of them.
                if "scope" in error.evidence:
                    return [error] * len(contents)
            except UNKNOWN:
                self._several = False
            except WSGIStoreError as error:
                return [error] * len(contents)
        return [self._alone(content) for content in contents]

    def _alone(self, content: Content) -> Outcome:
        with reading(content.data) as file:
            try:
                return self._uploader.upload(Source(file, content.digest.algorithm, None), force=self._force)
            except WSGIStoreError as error:
                return error


class _Form:
    """A form with several files, sent again with those that may be stored later."""

    def __init__(self, uploader: Uploader, contents: Sequence[Content]) -> None:
        self._uploader = uploader
        self._transport = uploader.transport
        self._kept = uploader.kept
        self._contents = contents
        self._outcomes: list[Outcome | None] = [None] * len(contents)

    def send(self) -> list[Outcome]:
        """Send them; returns the outcome of each. Raises a failure of the request as a whole."""
        try:
            self._transport.retries.repeat(self._attempt)
        except PASSING as error:
            return [error if one is None else one for one in self._outcomes]
        return [one for one in self._outcomes if one is not None]

    def _attempt(self) -> None:
        """Send those without an outcome; raises a failure that may pass, also that of a single file."""
        numbers = [number for number, one in enumerate(self._outcomes) if one is None]
        body, fields = form([self._contents[number].data for number in numbers])
        try:
            told = self._transport.once("POST", "", body, fields)
        except FilesRefused as error:
            told = error.evidence
        later = None
        for number, outcome in zip(numbers, self._told(told, numbers), strict=True):
            if isinstance(outcome, PASSING):
                if "retry_after" in told:
                    outcome.evidence["retry_after"] = told["retry_after"]
                later = outcome
            else:
                self._outcomes[number] = outcome
        if later is not None:
            raise later

    def _told(self, told: dict[str, Any], numbers: Sequence[int]) -> list[Outcome]:
        """What an answer tells about these files; raises UnexpectedAnswer."""
        match told.get("files"):
            case [*entries] if 0 < len(entries) <= len(numbers):
                outcomes = [
                    self._outcome(self._contents[number], entry)
                    for number, entry in zip(numbers, entries, strict=False)
                ]
                last = outcomes[-1]
                # After a failure of the store the server reads no further.
                if len(entries) == len(numbers) or isinstance(last, StoreError):
                    return outcomes + [last] * (len(numbers) - len(entries))
        raise self._transport.strange()

    def _outcome(self, content: Content, entry: Any) -> Outcome:
        """What an answer tells about one file."""
        if isinstance(entry, dict) and isinstance(entry.get("error"), dict):
            return reported(entry["error"]) or self._transport.strange()
        try:
            blob = blob_in(entry, self._transport, self._kept)
            return self._uploader.confirmed(entry, blob, content.digest, content)
        except WSGIStoreError as error:
            return error


def _divided(contents: Sequence[Content]) -> Iterator[list[Content]]:
    """Yield the files of each form."""
    part: list[Content] = []
    size = 0
    for content in contents:
        if part and (len(part) == FILES or size + len(content.data) > BYTES):
            yield part
            part, size = [], 0
        part.append(content)
        size += len(content.data)
    if part:
        yield part


def form(files: Sequence[bytes]) -> tuple[bytes, dict[str, str]]:
    """Return a form with files, and the header fields that describe it."""
    # Nobody can put into a file what is not known before.
    boundary = secrets.token_hex(16)
    # A file has to have a name: an empty one would count as no file.
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files[]"; filename="-"\r\n\r\n'.encode()
    parts = chain.from_iterable((head, data, b"\r\n") for data in files)
    body = b"".join((*parts, f"--{boundary}--\r\n".encode()))
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def _digest(algorithm: Algorithm, data: bytes) -> Digest:
    value = algorithm.new()
    value.update(data)
    return Digest(algorithm, value.digest())
