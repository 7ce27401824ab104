"""Uploads that clients may interrupt and continue."""

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache

from wsgi_store.errors import Denied, StoreError, Unsupported, UploadLocked, UploadNotFound
from wsgi_store.filesystem import (
    Directory,
    disk_errors,
    lock_if_possible,
    make_directory,
)
from wsgi_store.hashing import Hasher
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.contract import Store
from wsgi_store.store.staged import StagedFile
from wsgi_store.uploads import contents, records, removal
from wsgi_store.uploads.events import Event, EventHandler, ignored
from wsgi_store.uploads.finishing import Background, Publishing
from wsgi_store.uploads.listed import IDENTITY, paths
from wsgi_store.uploads.part import make_part
from wsgi_store.uploads.receiving import Shared
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.room import Limits, Room, directory_of
from wsgi_store.uploads.upload import Upload

# Creations whose directory may be removed meanwhile, because it is empty.
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
        told: EventHandler = ignored,
        threads: bool = True,
    ) -> None:
        self._staging = staging
        self._limits = limits
        self._ground = store.staging_directory
        self.room = room or Room(directory_of(store), told)
        self._directory = self.room.directory
        self._shared = Shared(staging, store, self.room, limits, sync, told, Background(threads=threads))
        self._next_sweep = 0.0
        self.lacks: str | None = None
        """What the file system lacks for uploads that can be continued."""
        self._tried = False
        if not store.read_only:
            with suppress(StoreError):
                self._try()
                self.sweep()

    def sweep(self) -> None:
        """Remove expired uploads; raises StoreError."""
        self._next_sweep = time.monotonic() + SWEEP_PAUSE
        self.room.sweep(receipts=self._limits.count)

    def _try(self) -> None:
        """Find out what the file system lacks; raises StoreError if that cannot be found out now."""
        if not self._tried:
            with disk_errors("cannot try the file system"):
                self.lacks = _lacking(self._ground)
            self._tried = True

    def create(
        self,
        owner: str,
        announced: FileInfo,
        *,
        alone: bool = False,
        reads: bool = False,
        publishing: Publishing = None,
    ) -> Upload:
        """Create an upload, or return the unfinished one of the same file and owner.

        Two files are the same if a digest is announced for both, and no other digest and no length that
        differs. If the caller `reads`, a blob that the store holds is renewed, and the upload is done;
        `publishing` is entered around that. With `alone` the owner has one upload: a new one replaces it
        unless it is being received. Raises TooLarge, TooManyUploads, UploadLocked, Denied, DigestMismatch if
        no file can have these digests, Unsupported, StoreError, and what `publishing` raises.
        """
        self._try()
        if self.lacks is not None:
            raise Unsupported(f"uploads cannot be continued here: the file system has no {self.lacks}")
        if time.monotonic() >= self._next_sweep:
            self.sweep()
        announced = replace(announced, kept=self._limits.expires)
        self._staging.limit(announced.length or 0, announced.max_size)
        self._staging.require_store()
        Hasher(self._shared.store.algorithm, announced.expected)
        with disk_errors("cannot create the upload"):
            own = self._own(owner)
            renew = cache(lambda: self._renewed(announced, publishing) if reads else None)
            for _ in range(ATTEMPTS):
                self._make_directories(own)
                with suppress(FileNotFoundError):
                    upload = self._unfinished(own, announced, renew)
                    if (receipt := renew()) is not None:
                        return self._held(own, announced, receipt, upload)
                    return upload or self._new(own, announced, alone=alone)
        raise UploadLocked("other requests keep creating and removing this upload")

    def _renewed(self, announced: FileInfo, publishing: Publishing) -> Receipt | None:
        if announced.length is None:
            return None
        return self._staging.renew(announced.expected, announced.length, publishing)

    def _unfinished(
        self, own: str, announced: FileInfo, renew: Callable[[], Receipt | None]
    ) -> Upload | None:
        """Return the unfinished upload with this content; `renew` tells what the store holds after that.

        Whoever is sending the file may store it while this waits.
        """
        try:
            return self._of_content(own, announced)
        except UploadLocked:
            if renew() is None:
                raise
            return None

    def _of_content(self, own: str, announced: FileInfo) -> Upload | None:
        """Return the unfinished upload of an owner with this content, which may say more of it now."""
        with Directory(own) as place:
            for identity in contents.noted(place.fd, announced.expected):
                with suppress(UploadNotFound):
                    upload = self._found(os.path.join(own, identity))
                    if upload.announced.fits(announced) and upload.join(announced):
                        self._shared.told(Event.RESUMED, identity, 0)
                        return upload
        return None

    def _held(self, own: str, announced: FileInfo, receipt: Receipt, upload: Upload | None) -> Upload:
        """Return an upload that is done because the store holds the blob."""
        with suppress(UploadLocked, UploadNotFound):
            if upload is not None:
                upload.settle(receipt)
                return upload
        path = os.path.join(own, secrets.token_hex(16))
        with self._draft(announced, receipt) as draft:
            self._put(draft, path)
        return Upload(self._shared, path, os.path.basename(path), announced)

    def _new(self, own: str, announced: FileInfo, *, alone: bool) -> Upload:
        """Create an upload, unless another request has done so; raises FileNotFoundError if `own` is gone."""
        path = os.path.join(own, secrets.token_hex(16))
        # Creations of one owner look one after another, so that both find the same upload.
        with self._draft(announced) as draft, removal.alone(own), Directory(own) as place:
            upload = self._of_content(own, announced) or (self._repeated(own, announced) if alone else None)
            if upload is not None:
                return upload
            with removal.alone(self._directory):
                self.room.refresh()
                self._require_room(path, announced)
                # First, so that an upload whose creation is killed is found by the next one.
                contents.note(place.fd, announced.expected, os.path.basename(path), sync=self._shared.sync)
                self._put(draft, path)
        self._shared.told(Event.CREATED, os.path.basename(path), announced.length or 0)
        return Upload(self._shared, path, os.path.basename(path), announced)

    def _repeated(self, own: str, announced: FileInfo) -> Upload | None:
        """Make way for the only upload of an owner; returns the one that is done, if it has this content."""
        for path in paths(own):
            with suppress(UploadNotFound):
                upload = self._found(path)
                if not upload.make_way():
                    if upload.announced.fits(announced) and announced.is_proven:
                        return upload
                    raise Denied("this ticket has been used", reason="used")
        return None

    def _make_directories(self, own: str) -> None:
        for path in (self._directory, own):
            make_directory(path, 0o700)

    def _require_room(self, path: str, announced: FileInfo) -> None:
        """Raise TooManyUploads, TooLarge or StorageFull if there may not be another upload."""
        length = announced.length or 0
        self._staging.admit(length, announced.max_size, files=FILES)
        self.room.require(self._limits, path, length, new=True)

    @contextmanager
    def _draft(self, announced: FileInfo, receipt: Receipt | None = None) -> Iterator[str]:
        """Yield the path of a new upload that is not yet found; it is removed unless it gets another."""
        path = os.path.join(self._directory, f".{secrets.token_hex(16)}")
        try:
            os.mkdir(path, 0o700)
            with Directory(path) as folder:
                records.write(announced, folder.fd, sync=self._shared.sync)
                if receipt is None:
                    make_part(folder.fd, 0, sync=self._shared.sync)
                else:
                    records.finish(folder.fd, receipt, sync=self._shared.sync)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _put(self, draft: str, path: str) -> None:
        """Make an upload found; raises FileNotFoundError if its owner's directory was just removed."""
        os.rename(draft, path)
        if self._shared.sync:
            records.sync_names(path)

    def find(self, owner: str, identity: str) -> Upload:
        """Return an upload of an owner; raises UploadNotFound and StoreError."""
        # Any other text could be the path of something else.
        if not IDENTITY.fullmatch(identity):
            raise UploadNotFound
        try:
            with disk_errors("cannot read the upload"):
                return self._found(os.path.join(self._own(owner), identity))
        except UploadNotFound:
            # A disk that is not mounted has no uploads, and they are not lost.
            self._staging.require_store()
            raise

    def has_unfinished(self, owner: str) -> bool:
        """Return whether an owner has an upload that is not done; raises StoreError."""
        with disk_errors("cannot read the upload"):
            try:
                return any(
                    not os.path.exists(os.path.join(path, records.DONE)) for path in paths(self._own(owner))
                )
            except FileNotFoundError:
                return False

    def _found(self, path: str) -> Upload:
        identity = os.path.basename(path)
        # An upload appears with all its files. One that is not there may appear at this moment, and is no
        # damaged one.
        with suppress(FileNotFoundError, NotADirectoryError), Directory(path) as folder:
            try:
                announced = records.announced(records.read(records.ANNOUNCED, folder.fd))
            except (FileNotFoundError, records.Damaged):
                # Without syncs a power failure may have damaged it, so that nobody can use it any more.
                Upload(self._shared, path, identity, FileInfo()).discard()
            else:
                return Upload(self._shared, path, identity, announced)
        raise UploadNotFound

    def _own(self, owner: str) -> str:
        return os.path.join(self._directory, hashlib.sha256(owner.encode()).hexdigest()[:32])


def _lacking(directory: str) -> str | None:
    """Return what a file system lacks for uploads that can be continued; raises OSError."""
    with StagedFile.named(directory) as file:
        has_locks = lock_if_possible(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return None if has_locks else "locks (flock(2))"
