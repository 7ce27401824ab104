"""Uploads that clients may interrupt and continue."""

import errno
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from wsgi_store.errors import StoreError, Unsupported, UploadLocked, UploadNotFound
from wsgi_store.filesystem import (
    Directory,
    disk_errors,
    lock_if_possible,
    make_directory,
    read_file,
)
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Store
from wsgi_store.store.staged import StagedFile
from wsgi_store.uploads import records, removal
from wsgi_store.uploads.events import Event, Told, ignored
from wsgi_store.uploads.listed import IDENTITY
from wsgi_store.uploads.part import make_part
from wsgi_store.uploads.records import Announced
from wsgi_store.uploads.room import Limits, Room
from wsgi_store.uploads.upload import Shared, Upload

# The result of an upload takes the place of its parts, or another request was faster to create it.
ATTEMPTS = 5
# Seconds between two sweeps of one process.
SWEEP_PAUSE = 60.0
# A directory, what was announced, a part and its note.
FILES = 4


class Uploads:
    """The unfinished uploads of a store, and the results of those that were finished lately.

    An upload belongs to whoever created it: nobody else finds it.
    """

    def __init__(  # pylint: disable=too-many-arguments
        self,
        staging: Staging,
        store: Store,
        limits: Limits = Limits(),
        *,
        room: Room | None = None,
        sync: bool = True,
        told: Told = ignored,
    ) -> None:
        self._staging = staging
        self._limits = limits
        self._ground = store.staging_directory
        self.room = room or Room(directory_of(store), told)
        self._directory = self.room.directory
        self._shared = Shared(staging, store, self.room, limits, sync, told)
        self._next_sweep = 0.0
        self.lacks: str | None = None
        """What the file system lacks for uploads that can be continued."""
        self._tried = False
        if not store.read_only:
            with suppress(StoreError):
                self._try()
                self.sweep()

    def sweep(self) -> None:
        """Remove what has expired; raises StoreError."""
        self._next_sweep = time.monotonic() + SWEEP_PAUSE
        self.room.sweep(receipts=self._limits.count)

    def _try(self) -> None:
        """Find out what the file system lacks; raises StoreError if that cannot be found out now."""
        if not self._tried:
            with disk_errors("cannot try the file system"):
                self.lacks = _lacking(self._ground)
            self._tried = True

    def create(self, owner: str, announced: Announced) -> "Upload":
        """Create an upload, or return the unfinished one of the same file and owner.

        Two files are the same if the same digests and length are announced for them. Raises TooLarge,
        TooManyUploads, Unsupported and StoreError.
        """
        self._try()
        if self.lacks is not None:
            raise Unsupported(f"uploads cannot be continued here: the file system has no {self.lacks}")
        if time.monotonic() >= self._next_sweep:
            self.sweep()
        announced = replace(announced, kept=self._limits.expires)
        with disk_errors("cannot create the upload"):
            own = self._own(owner)
            self._make_directories(own)
            identity = self._identity(owner, announced)
            path = os.path.join(own, identity)
            for _ in range(ATTEMPTS):
                with suppress(FileNotFoundError, records.Damaged):
                    if removal.expire(path, time.time()):
                        self._shared.told(Event.EXPIRED, identity, 0)
                with suppress(UploadNotFound):
                    found = self.find(owner, identity)
                    self._shared.told(Event.RESUMED, identity, 0)
                    return found
                self._require_room(path, announced)
                with self._draft(announced) as draft, removal.alone(self._directory):
                    self._require_room(path, announced)
                    if self._put(draft, path):
                        self._shared.told(Event.CREATED, identity, announced.length or 0)
                        return self.find(owner, identity)
        raise UploadLocked("other requests keep creating and removing this upload")

    def _make_directories(self, own: str) -> None:
        for path in (self._directory, own):
            make_directory(path, 0o700)

    def _require_room(self, path: str, announced: Announced) -> None:
        """Raise TooManyUploads, TooLarge or StorageFull if there may not be another upload."""
        length = announced.length or 0
        self._staging.admit(length, announced.max_size, files=FILES)
        self.room.require(self._limits, path, length, new=True)

    @contextmanager
    def _draft(self, announced: Announced) -> Iterator[str]:
        """Yield the path of a new upload that is not yet found; it is removed unless it gets another."""
        path = os.path.join(self._directory, f".{secrets.token_hex(16)}")
        try:
            os.mkdir(path, 0o700)
            with Directory(path) as folder:
                records.write(announced, folder.fd, sync=self._shared.sync)
                make_part(folder.fd, 0, sync=self._shared.sync)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _put(self, draft: str, path: str) -> bool:
        """Make an upload found; False if there is another, or its owner's directory was just removed."""
        try:
            os.rename(draft, path)
        except OSError as error:
            if error.errno in records.TAKEN:
                return False
            if error.errno == errno.ENOENT:
                self._make_directories(os.path.dirname(path))
                return False
            raise
        if self._shared.sync:
            records.sync_names(path)
        return True

    def find(self, owner: str, identity: str) -> "Upload":
        """Return an upload of an owner; raises UploadNotFound and StoreError."""
        # Any other text could be the path of something else.
        if not IDENTITY.fullmatch(identity):
            raise UploadNotFound
        path = os.path.join(self._own(owner), identity)
        with disk_errors("cannot read the upload"):
            try:
                announced = records.announced(read_file(os.path.join(path, records.ANNOUNCED)))
            except (FileNotFoundError, NotADirectoryError, records.Damaged):
                # Without syncs a power failure may have damaged it, so that nobody can use it any more.
                with suppress(FileNotFoundError, NotADirectoryError):
                    Upload(self._shared, path, identity, Announced()).discard()
                raise UploadNotFound from None
        return Upload(self._shared, path, identity, announced)

    def _own(self, owner: str) -> str:
        return os.path.join(self._directory, hashlib.sha256(owner.encode()).hexdigest()[:32])

    def _identity(self, owner: str, announced: Announced) -> str:
        """Return an id that nobody can guess: a new one, or that of all uploads of this file by its owner."""
        if not announced.expected:
            return secrets.token_hex(16)
        text = json.dumps([owner, announced.length, sorted(map(str, announced.expected))])
        return hmac.new(self._key(), text.encode(), hashlib.sha256).hexdigest()[:32]

    def _key(self) -> bytes:
        with Directory(self._directory) as directory:
            key = records.value_of(".key", directory.fd)
            if key is None:
                key = records.settle(".key", secrets.token_hex(32), directory.fd, sync=self._shared.sync)
        return key.encode()


def directory_of(store: Store) -> str:
    """Return the directory of the uploads of a store, on the file system of its staged files."""
    return os.path.join(os.path.dirname(store.staging_directory), ".uploads")


def _lacking(directory: str) -> str | None:
    """Return what a file system lacks for uploads that can be continued; raises OSError."""
    with StagedFile.named(directory) as file:
        has_locks = lock_if_possible(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return None if has_locks else "locks (flock(2))"
