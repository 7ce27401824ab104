"""Processes that append to one upload at once, and what their clients were told."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from unittest import mock

from tests.support.rounds import SEED, Round
from tests.support.turns import APPENDING, Turns
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import (
    DigestMismatch,
    IncompleteBody,
    InconsistentLength,
    OffsetMismatch,
    UploadLocked,
    UploadNotFound,
)
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Durability
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.marker import Marker
from wsgi_store.store.open import open_store
from wsgi_store.uploads import finishing, note, part
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.upload import State, Upload
from wsgi_store.uploads.uploads import Uploads

SHA256 = Algorithm.SHA256
DATA = bytes(range(60))
DIGEST = SHA256.parse(hashlib.sha256(DATA).hexdigest())
# How often another process has its turn: a request makes some 100 calls.
RATES = (0.01, 0.03, 0.1, 0.3)
# Requests of a client in one round.
REQUESTS = 4


def digest_of(data: bytes) -> Digest:
    """The digest with which a client has a piece checked."""
    return SHA256.parse(hashlib.sha256(data).hexdigest())


class NoThread:
    """A thread that cannot be started; its caller does the work."""

    def __init__(self, **_: object) -> None:
        pass

    def start(self) -> None:
        """Refuse to start."""
        raise RuntimeError("can't start new thread")


@contextmanager
def impatient() -> Iterator[None]:
    """Let newcomers take over at once, and processes have one thread each."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(finishing, "Thread", NoThread))
        stack.enter_context(mock.patch.object(part, "PATIENCE", 0.0))
        stack.enter_context(mock.patch.object(part, "PEACE", -1.0))
        yield


@contextmanager
def boots(directory: Path) -> Iterator[partial[None]]:
    """Yield a function that starts the system again."""
    path = directory / "boot_id"
    started = iter(range(1 << 30))

    def start() -> None:
        path.write_text(str(next(started)), encoding="ascii")
        note.boot.cache_clear()

    with mock.patch.object(note, "BOOT_ID", str(path)):
        start()
        try:
            yield partial(start)
        finally:
            note.boot.cache_clear()


class Sent:
    """One upload of DATA, in a store of its own."""

    def __init__(
        self,
        root: Path,
        *,
        length: int | None,
        expected: tuple[Digest, ...] = (),
        durability: Durability = Durability.NONE,
        begin: bool = True,
    ) -> None:
        self.root = root
        self.durability = durability
        self.length = length
        self.announced = FileInfo(length=length, expected=expected)
        self.removed = False
        """Whether somebody may have removed it."""
        self.overrun = False
        """Whether somebody may have made it longer than DATA."""
        self.known = 0
        """The last offset that a client got."""
        self.finished: State | None = None
        self.identity = ""
        if begin:
            self.create()

    def create(self) -> None:
        """Create it, or find it."""
        self.identity = self.process().uploads.create("me", self.announced).identity

    def process(self) -> "Sender":
        """A process of the server, with a client."""
        return Sender(self)

    def tell(self, state: State, known: int) -> State:
        """Check what a client is told that asked when `known` bytes had been acknowledged."""
        assert self.removed or state.offset >= known, f"{state.offset} of {known} acknowledged bytes"
        self.known = max(self.known, state.offset)
        if state.receipt is not None:
            hash_ = state.receipt.digest.hex
            data = (self.root / hash_[:2] / hash_).read_bytes()
            assert state.receipt.digest == digest_of(data)
            assert data == DATA or self.overrun
            self.finished = state
        elif self.length is not None:
            assert state.offset < self.length, "the end was told before the blob was published"
        return state

    @property
    def folder(self) -> Path:
        """The directory of the upload."""
        (own,) = (path for path in (self.root / ".uploads").iterdir() if not path.name.startswith("."))
        return own / self.identity

    def settle(self) -> None:
        """Send what is missing, and check that the blob is right and nothing is left."""
        sender = self.process()
        for _ in range(3):
            state = sender.ask()
            if state is None:
                break
            if state.receipt is not None:
                assert sorted(path.name for path in self.folder.iterdir()) == ["done.json", "upload.json"]
                break
            sender.send(state.offset, DATA[state.offset :], complete=True)
        assert self.finished is not None
        for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
            assert digest_of(path.read_bytes()).hex == path.name, "a blob was changed"
            assert path.stat().st_mode & 0o777 == 0o444
        assert not os.listdir(self.root / ".staging")


class Sender:
    """A process that serves a client, which sends DATA from the offset that it got."""

    def __init__(self, sent: Sent) -> None:
        self.sent = sent
        store = open_store(str(sent.root), SHA256, sent.durability, create=True)
        assert isinstance(store, LocalStore)
        self.store = store
        staging = Staging(store, durability=sent.durability)
        self.uploads = Uploads(staging, store, sync=sent.durability is not Durability.NONE)

    @property
    def upload(self) -> Upload:
        """The upload as this process finds it."""
        return self.uploads.find("me", self.sent.identity)

    def ask(self) -> State | None:
        """Ask for the offset of the upload; None if the server cannot say now."""
        known = self.sent.known
        try:
            return self.sent.tell(self.upload.state(), known)
        except UploadLocked:
            return None
        except UploadNotFound:
            assert self.sent.removed
            return None

    def send(
        self, offset: int, data: bytes, *, complete: bool, checked: bool = False, pieces: int = 1
    ) -> None:
        """Append bytes; the next answer says whether they count."""
        known = self.sent.known
        step = max(1, -(-len(data) // pieces))
        chunks = [data[start : start + step] for start in range(0, len(data), step)]
        expected = (digest_of(data),) if checked else ()
        try:
            state = self.upload.append(chunks, offset, complete=complete, expected=expected)
        except (UploadLocked, OffsetMismatch):
            return
        except UploadNotFound:
            assert self.sent.removed
            return
        self.sent.tell(state, known)

    def spoil(self, offset: int, size: int) -> None:
        """Append bytes that were damaged on the way, with the digest of the right ones."""
        wanted = digest_of(DATA[offset : offset + size])
        try:
            self.upload.append([b"?" * size], offset, expected=(wanted,))
        except (DigestMismatch, UploadLocked, OffsetMismatch, UploadNotFound, InconsistentLength):
            return
        raise AssertionError("damaged bytes were accepted")

    def break_off(self, offset: int, size: int) -> None:
        """Append bytes, after which the line breaks."""

        def chunks() -> Iterator[bytes]:
            yield DATA[offset : offset + size]
            raise IncompleteBody

        with suppress(IncompleteBody, UploadLocked, OffsetMismatch, UploadNotFound):
            self.upload.append(chunks(), offset)

    def overrun(self, size: int) -> None:
        """Append bytes behind the end of the file, as a client does that lost the last answer."""
        # The end of the file is acknowledged only after it is published.
        self.sent.overrun |= self.sent.length is None
        try:
            state = self.upload.append([b"?" * size], len(DATA))
        except (InconsistentLength, UploadLocked, OffsetMismatch):
            return
        assert state.receipt is not None or self.sent.length is None

    def remove(self) -> None:
        """Remove the upload."""
        self.sent.removed = True
        with suppress(UploadLocked, UploadNotFound):
            self.upload.remove()

    def work(self, choice: Random, requests: int = REQUESTS) -> None:
        """Ask and send a few times."""
        for _ in range(requests):
            state = self.ask()
            if state is None or state.receipt is not None:
                continue
            offset = state.offset
            size = choice.randrange(1, len(DATA) + 1)
            data = DATA[offset : offset + size]
            if choice.random() < 0.2:
                self.break_off(offset, 1)
                continue
            if choice.random() < 0.2:
                self.spoil(offset, max(1, len(data)))
            end = offset + len(data) == len(DATA)
            self.send(
                offset, data, complete=end, checked=choice.random() < 0.4, pieces=choice.randrange(1, 4)
            )


class Meeting(Round):
    """A round in which several processes work at one upload."""

    def __init__(self, directory: Path, number: int, name: str) -> None:
        super().__init__(directory, number, Marker(SHA256))
        self.choice = Random(f"{SEED}-{name}-{number}")
        self.turns = Turns(self.choice, more=APPENDING, rates=RATES)

    def kill_some(self, acts: int, rate: float, most: int = 60) -> dict[int, int]:
        """Which act to kill, and at which of its changes."""
        if self.choice.random() >= rate:
            return {}
        return {self.choice.randrange(acts): self.choice.randrange(1, most)}
