"""Uploads in pieces, by several processes, with broken lines, takeovers and power cuts."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wsgi_store.digest import Algorithm
from wsgi_store.errors import DigestMismatch, IncompleteBody, OffsetMismatch, UploadNotFound
from wsgi_store.filesystem import Directory
from wsgi_store.staging import Staging
from wsgi_store.store.open import open_store
from wsgi_store.uploads import note, part
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.upload import State, Upload
from wsgi_store.uploads.uploads import Uploads

SIZE = 5000
DATA = bytes(number % 251 for number in range(SIZE))
SHA256 = Algorithm.SHA256
DIGEST = SHA256.parse(hashlib.sha256(DATA).hexdigest())


WHOLE = FileInfo(length=SIZE, expected=(DIGEST,))


class Killed(BaseException):
    """The process was killed at this point."""


@contextmanager
def killed() -> Iterator[None]:
    """A publication before which the process is killed."""
    raise Killed
    yield


class Model(RuleBasedStateMachine):
    """One file that is uploaded; `known` is the last offset that its client got."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.boot = self.directory / "boot"
        self.boot.write_text("1")
        self.patches = [
            mock.patch.object(note, "BOOT_ID", str(self.boot)),
            mock.patch.object(part, "PATIENCE", 0.0),
            mock.patch.object(part, "PEACE", -1.0),
        ]
        for patch in self.patches:
            patch.start()
        note.boot.cache_clear()
        self.store = open_store(str(self.directory / "store"), SHA256, create=True)
        self.processes = [self.start() for _ in range(2)]
        self.identity, self.announces, self.found = "", False, False
        self.known = 0
        self.ended = False
        self.stuck: list[int] = []
        self.told: State | None = None

    def start(self) -> Uploads:
        """A process of the server."""
        return Uploads(Staging(self.store), self.store)

    def teardown(self) -> None:
        for fd in self.stuck:
            os.close(fd)
        for patch in self.patches:
            patch.stop()
        note.boot.cache_clear()
        shutil.rmtree(self.directory)

    @initialize(length=st.booleans(), digest=st.booleans())
    def create(self, length: bool, digest: bool) -> None:
        """Begin the upload."""
        announced = FileInfo(length=SIZE if length else None, expected=(DIGEST,) if digest else ())
        self.identity = self.processes[0].create("me", announced).identity
        self.announces, self.found = length, digest

    def upload(self, process: int) -> Upload:
        """The upload as a process finds it."""
        return self.processes[process].find("me", self.identity)

    def tell(self, state: State) -> None:
        """Remember the answer that the client got."""
        assert state.offset >= self.known
        self.known = state.offset
        if state.receipt is not None:
            self.told = state
            assert state.receipt.digest == DIGEST
            assert state.offset == SIZE

    processes_ = st.integers(0, 1)
    sizes = st.integers(0, SIZE)

    @rule(process=processes_)
    def ask(self, process: int) -> None:
        """The client asks how far the upload is."""
        self.tell(self.upload(process).state())

    @rule(process=processes_, size=sizes, pieces=st.integers(1, 4), checked=st.booleans())
    def send(self, process: int, size: int, pieces: int, checked: bool) -> None:
        """The client sends bytes."""
        end = min(SIZE, self.known + size)
        data = DATA[self.known : end]
        chunks = [
            data[start : start + size // pieces + 1] for start in range(0, len(data), size // pieces + 1)
        ]
        expected = (SHA256.parse(hashlib.sha256(data).hexdigest()),) if checked else ()
        try:
            state = self.upload(process).append(
                chunks,
                self.known,
                length=SIZE if end == SIZE else None,
                complete=end == SIZE,
                expected=expected,
            )
        except OffsetMismatch as error:
            # Bytes of a broken request counted, too.
            assert error.evidence["expected"] > self.known or self.told
        else:
            self.tell(state)

    @precondition(lambda self: self.told is None)
    @rule(process=processes_, size=sizes, checked=st.booleans())
    def break_off(self, process: int, size: int, checked: bool) -> None:
        """The line breaks while the client sends."""

        def chunks() -> Iterator[bytes]:
            yield DATA[self.known : self.known + size]
            raise IncompleteBody

        expected = (SHA256.parse(hashlib.sha256(DATA[self.known :]).hexdigest()),) if checked else ()
        with pytest.raises((IncompleteBody, OffsetMismatch)):
            self.upload(process).append(chunks(), self.known, expected=expected)

    @precondition(lambda self: self.known < SIZE)
    @rule(process=processes_, size=st.integers(1, 100))
    def send_damaged(self, process: int, size: int) -> None:
        """Bytes that are damaged on the way are found by their digest."""
        data = DATA[self.known : self.known + size]
        expected = (SHA256.parse(hashlib.sha256(data).hexdigest()),)
        with pytest.raises((DigestMismatch, OffsetMismatch)):
            self.upload(process).append([bytes(len(data))[:-1] + b"?"], self.known, expected=expected)

    @rule(process=processes_)
    def create_again(self, process: int) -> None:
        """Another tab announces the same file."""
        self.tell(self.upload(process).state())
        upload = self.processes[process].create("me", WHOLE)
        if self.found and self.told is None:
            assert upload.identity == self.identity
            self.tell(upload.state())
        else:
            assert upload.identity != self.identity
            upload.remove()

    @precondition(lambda self: self.told is None)
    @rule(process=processes_)
    def kill_at_the_end(self, process: int) -> None:
        """The process is killed when it has all bytes."""
        with pytest.raises((Killed, OffsetMismatch)):
            self.upload(process).append(
                [DATA[self.known :]], self.known, length=SIZE, complete=True, publishing=killed()
            )
        self.ended = True

    @rule(process=processes_)
    def hold(self, process: int) -> None:
        """Another client stores the file, and one that may read needs not send it."""
        Staging(self.store).receive([DATA])
        upload = self.processes[process].create("reader", WHOLE, reads=True)
        receipt = upload.state().receipt
        assert receipt is not None and not receipt.created
        upload.remove()

    @rule(process=processes_)
    def announce_wrong(self, process: int) -> None:
        """A client announces another digest than that of the file."""
        upload = self.processes[process].create("liar", replace(WHOLE, expected=(SHA256.parse("0" * 64),)))
        with pytest.raises(DigestMismatch):
            upload.append([DATA], 0)
        with pytest.raises(UploadNotFound):
            self.processes[1 - process].find("liar", upload.identity)

    @rule(process=processes_, length=st.booleans(), digest=st.booleans())
    def cancel(self, process: int, length: bool, digest: bool) -> None:
        """The client cancels the upload and begins again."""
        self.upload(process).remove()
        self.begin_again(length, digest)

    @precondition(lambda self: not self.stuck)
    @rule(process=processes_, length=st.booleans(), digest=st.booleans())
    def expire(self, process: int, length: bool, digest: bool) -> None:
        """The client comes back too late."""
        # Without the bytes that a power failure has damaged.
        self.tell(self.upload(process).state())
        folder = next((self.directory / "store" / ".uploads").glob(f"*/{self.identity}"))
        for path in folder.iterdir():
            os.utime(path, (1, 1))
        with pytest.raises(UploadNotFound):
            self.upload(process).state()
        self.begin_again(length, digest)

    def begin_again(self, length: bool, digest: bool) -> None:
        """Begin another upload, because this one is gone."""
        with pytest.raises(UploadNotFound):
            self.upload(0)
        self.known, self.told, self.ended = 0, None, False
        self.create(length, digest)

    @precondition(lambda self: not self.ended)
    @rule(more=st.binary(max_size=100))
    def get_stuck(self, more: bytes) -> None:
        """A process stops while it holds the upload, and writes later what it had in its hands."""
        folder = next((self.directory / "store" / ".uploads").glob(f"*/{self.identity}"))
        if not (folder / "0").exists():
            return
        with Directory(str(folder)) as opened:
            number, _ = part.last_of(opened.fd)
        fd = os.open(folder / str(number), os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.stuck.append(fd)
        before = self.known
        self.tell(self.upload(0).state())
        assert self.known >= before
        os.lseek(fd, 0, os.SEEK_END)
        os.write(fd, more)

    @rule(kept=st.integers(0, SIZE), garbage=st.binary(max_size=50))
    def cut_power(self, kept: int, garbage: bytes) -> None:
        """After a power failure, only what was synced is certain."""
        for fd in self.stuck:
            os.close(fd)
        self.stuck.clear()
        for path in (self.directory / "store" / ".uploads").glob("*/*/[0-9]"):
            with (path.with_name(path.name + ".note")).open("rb") as notes:
                synced = note.Note.read(notes.fileno()).synced
            end = path.with_name(path.name + ".end")
            if end.exists():
                synced = max(synced, int(os.listdir(end)[0]))
            size = path.stat().st_size
            os.truncate(path, max(synced, min(size, kept)))
            with path.open("r+b") as file:
                file.seek(synced)
                file.write(garbage)
        self.boot.write_text(str(int(self.boot.read_text()) + 1))
        note.boot.cache_clear()
        self.processes = [self.start() for _ in range(2)]

    @invariant()
    def stored(self) -> None:
        """Every file whose storing was acknowledged is in the store."""
        if self.told is not None:
            path = self.directory / "store" / DIGEST.hex[:2] / DIGEST.hex
            assert path.read_bytes() == DATA


TestModel = Model.TestCase
TestModel.settings = settings(stateful_step_count=20)
