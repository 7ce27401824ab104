"""Uploads that clients may interrupt and continue."""

import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from wsgi_store.errors import StoreError, TooManyUploads, UploadLocked, UploadNotFound
from wsgi_store.filesystem import Directory, disk_errors, make_directory, read_file
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Store
from wsgi_store.uploads import records, room
from wsgi_store.uploads.part import make_part
from wsgi_store.uploads.records import Announced
from wsgi_store.uploads.upload import Shared, Upload

# The result of an upload takes the place of its parts, or another request was faster to create it.
ATTEMPTS = 3
IDENTITY = re.compile("[0-9a-f]{32}")
# Seconds between two sweeps of one process.
SWEEP_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What uploads may take."""

    expires: float = 86400.0
    """Seconds for which an upload is kept after its last byte, and its result after that."""
    count: int = 1000
    """Uploads of one owner."""
    size: int | None = None
    """Bytes that are received or announced for unfinished uploads of one owner."""


class Uploads:
    """The unfinished uploads of a store, and the results of those that were finished lately.

    An upload belongs to whoever created it: nobody else finds it.
    """

    def __init__(
        self, staging: Staging, store: Store, limits: Limits = Limits(), *, sync: bool = True
    ) -> None:
        self._staging = staging
        self._limits = limits
        self._shared = Shared(staging, store, limits.expires, sync)
        self._directory = os.path.join(os.path.dirname(store.staging_directory), ".uploads")
        self._next_sweep = 0.0
        if not store.read_only:
            with suppress(StoreError):
                self.sweep()

    def sweep(self) -> None:
        """Remove what has expired; raises StoreError."""
        self._next_sweep = time.monotonic() + SWEEP_PAUSE
        with disk_errors("cannot sweep the uploads"):
            for one in room.listed(self._directory):
                if one.modified + self._limits.expires < time.time():
                    with suppress(UploadLocked, UploadNotFound):
                        Upload(self._shared, one.path, os.path.basename(one.path), Announced()).state()

    def create(self, owner: str, announced: Announced) -> "Upload":
        """Create an upload, or return the unfinished one of the same file and owner.

        Two files are the same if the same digests and length are announced for them. Raises TooLarge and
        StoreError.
        """
        if time.monotonic() >= self._next_sweep:
            self.sweep()
        self._staging.admit(announced.length or 0, announced.max_size)
        with disk_errors("cannot create the upload"):
            own = self._own(owner)
            make_directory(self._directory)
            make_directory(own)
            identity = self._identity(owner, announced)
            for _ in range(ATTEMPTS):
                with suppress(UploadNotFound):
                    return self.find(owner, identity)
                self._require_room(own, announced)
                path = os.path.join(own, identity)
                with self._draft(own, announced) as draft:
                    try:
                        os.rename(draft, path)
                    except OSError as error:
                        if error.errno not in records.TAKEN:
                            raise
                    else:
                        if self._shared.sync:
                            records.sync_names(path)
        raise UploadLocked("other requests keep creating and removing this upload")

    def _require_room(self, own: str, announced: Announced) -> None:
        """Raise TooManyUploads if an owner may not have another upload."""
        unfinished = [one for one in room.owned(own) if not one.done]
        if len(unfinished) >= self._limits.count:
            raise TooManyUploads("finish or delete another upload first", limit=self._limits.count)
        if self._limits.size is not None:
            size = sum(one.size + one.missing for one in unfinished) + (announced.length or 0)
            if size > self._limits.size:
                raise TooManyUploads("unfinished uploads take too much room", limit=self._limits.size)

    @contextmanager
    def _draft(self, own: str, announced: Announced) -> Iterator[str]:
        """Yield the path of a new upload that is not yet found; it is removed unless it gets another."""
        path = os.path.join(own, f".{secrets.token_hex(16)}")
        os.mkdir(path, 0o700)
        try:
            with Directory(path) as folder:
                records.write(announced, folder.fd, sync=self._shared.sync)
                make_part(folder.fd, 0, sync=self._shared.sync)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def find(self, owner: str, identity: str) -> "Upload":
        """Return an upload of an owner; raises UploadNotFound and StoreError."""
        # Any other text could be the path of something else.
        if not IDENTITY.fullmatch(identity):
            raise UploadNotFound
        path = os.path.join(self._own(owner), identity)
        with disk_errors("cannot read the upload"):
            try:
                announced = records.announced(read_file(os.path.join(path, records.ANNOUNCED)))
            except (FileNotFoundError, NotADirectoryError):
                raise UploadNotFound from None
            except records.Damaged:
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
