"""A process whose store keeps uploads, for tests that look at its files."""

import os
import time
from pathlib import Path

from wsgi_store.digest import Algorithm
from wsgi_store.staging import Staging
from wsgi_store.store.open import open_store
from wsgi_store.uploads.events import Event
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.room import Limits, Room
from wsgi_store.uploads.upload import Upload
from wsgi_store.uploads.uploads import Uploads

DATA = b"some bytes of a file"
HALF = len(DATA) // 2


class Service:
    """The uploads of a process, with what they told."""

    def __init__(self, root: Path, limits: Limits = Limits()) -> None:
        store = open_store(str(root), Algorithm.SHA256, create=True)
        self.directory = root / ".uploads"
        self.told: list[Event] = []
        self.room = room = Room(str(self.directory), self.tell)
        self.staging = Staging(store, promises=room)
        self.uploads = Uploads(self.staging, store, limits, room=room, told=self.tell)

    def tell(self, event: Event, _identity: str, _size: int) -> None:
        """Note an event."""
        self.told.append(event)

    def begin(self, data: bytes = DATA[:HALF], **announced: object) -> Upload:
        """An upload with its first bytes."""
        announced.setdefault("length", len(DATA))
        upload = self.uploads.create("me", FileInfo(**announced))  # type: ignore[arg-type]
        if data:
            upload.append([data], 0)
        return upload

    def path(self, upload: Upload) -> Path:
        """The directory of an upload."""
        return next(self.directory.glob(f"*/{upload.identity}"))

    def age(self, upload: Upload, seconds: float) -> None:
        """Let the last byte of an upload have arrived that long ago."""
        for path in self.path(upload).iterdir():
            then = time.time() - seconds
            os.utime(path, (then, then))

    def names(self) -> list[str]:
        """What there is in the directory of uploads, apart from the key."""
        found = (str(path.relative_to(self.directory)) for path in self.directory.rglob("*"))
        return sorted(name for name in found if name != ".key")
