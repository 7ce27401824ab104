"""What identifies an object in a bucket, and what its metadata say."""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsgi_store.digest import Digest
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.keys import read_digest

if TYPE_CHECKING:
    from obstore import GetResult

# Seconds between two looks at an object that somebody is about to remove.
PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class Version:
    """What identifies an object among all that were or will be put under its key.

    The tag is not enough: it belongs to the bytes as they were sent, even if they rotted on a disk.
    """

    size: int
    modified: int  # seconds since the epoch, by the clock of the engine
    tag: str | None
    token: str
    """Names the upload that created the object, and those of other keys that it replaces.

    Empty if another program created it.
    """

    def made_by(self, token: str) -> bool:
        """Whether this upload created the object, or one that this object replaces."""
        return token in self.token.split()

    def takes_place_of(self, other: "Version") -> bool:
        """Whether this object was put in the place of the other one, or another program put that one."""
        return not other.token or self.made_by(other.token.split()[0])


def version_of(result: "GetResult") -> Version:
    """Return what identifies an object that was described or opened."""
    meta = result.meta
    modified = int(meta["last_modified"].timestamp())
    return Version(meta["size"], modified, meta["e_tag"], result.attributes.get("upload", ""))


def look(bucket: Bucket, key: str) -> Version | None:
    """Describe an object; None if there is none."""
    with asking("cannot stat the blob"):
        try:
            return version_of(bucket.describe(key))
        except FileNotFoundError:
            return None


def outwait(bucket: Bucket, key: str, there: Version) -> None:
    """Wait until an object has gone, or nobody can be about to remove it any more.

    An upload that put it there before it knew of a migration removes it, and does not tell others of it.
    """
    end = time.monotonic() + bucket.timeout
    while time.monotonic() < end and look(bucket, key) == there:
        time.sleep(PAUSE)


def metadata(names: Iterable[Digest], token: str, *replaced: Version) -> dict[str, str]:
    """Return the metadata of a blob with these further names, for an upload that is named by a token.

    `replaced` are objects under other keys whose place it takes.
    """
    tokens = [token, *(there.token.split()[0] for there in replaced if there.token)]
    held = {"upload": " ".join(tokens)}
    if further := " ".join(map(str, names)):
        held["names"] = further
    return held


def names_in(attributes: Mapping[str, str]) -> list[Digest]:
    """Return the further names in such metadata; those in another form are left out."""
    found = []
    for text in attributes.get("names", "").split():
        with suppress(ValueError):
            found.append(read_digest(text))
    return found
