"""The names of a store on a disk as a whole: what migrations, verification and collection need."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from wsgi_store.digest import Algorithm, Digest, parse_any
from wsgi_store.errors import BlobNotFound, StorageFull
from wsgi_store.filesystem import ABSENT, NAME, Directory, disk_errors, locked
from wsgi_store.store.abilities import Adopted, Hashed
from wsgi_store.store.contract import Blob
from wsgi_store.store.disk.listing import Listing
from wsgi_store.store.disk.names import followed, is_link, read_link, stat_file, target_of
from wsgi_store.store.disk.naming import adopt, give_all
from wsgi_store.store.disk.shard import Shard
from wsgi_store.store.disk.tree import Tree
from wsgi_store.store.marker import Marker


class NameKeeping:
    """The ability Names of a store on a disk."""

    _tree: Tree
    listing: Listing

    def marker(self) -> Marker:
        """Read by which algorithms the store names its blobs; raises StoreUnavailable."""
        return self._tree.marker.refresh()

    def change_marker(self, change: Callable[[Marker], Marker]) -> Marker:
        """Replace the marker when no write is under way; returns the new one."""
        with disk_errors("cannot change the store's marker"):
            return self._tree.marker.change(change)

    def strays(self, algorithm: Algorithm, after: Digest | None = None) -> Iterator[Blob]:
        """Yield the blobs that have only a name by `algorithm`, a further one, in ascending order."""
        yield from self.listing.files(algorithm, after)
        self._tree.marker.refresh()  # if the disk was unmounted meanwhile, blobs are missing

    def adopt(self, found: Sequence[Hashed]) -> list[Adopted]:
        """Give strays of one shard their primary names; returns what became of each."""
        with disk_errors("cannot rename the blobs"), self._tree.marker.held() as marker:
            return adopt(self._tree, found, marker)

    def give_names(
        self, found: Iterable[Hashed], mended: list[Digest] | None = None
    ) -> dict[Digest, list[Algorithm]]:
        """Give blobs all further names that they lack; returns by which a name is another blob's."""
        with disk_errors("cannot name the blobs"), self._tree.marker.held() as marker:
            return give_all(self._tree, found, marker, mended)

    def links(self, algorithm: Algorithm, after: Digest | None = None) -> Iterator[tuple[Digest, Digest]]:
        """Yield the further names by `algorithm`, each with the name it leads to."""
        marker = self._tree.marker.refresh()
        for entry in self.listing.entries(algorithm, after):
            if entry.link:
                with disk_errors("cannot read a name", hash=entry.digest.hex):
                    target = followed(self._text(entry.digest.hex) or "", algorithm, marker)
                if target is not None:
                    yield entry.digest, target

    def remove_link(self, name: Digest, target: Digest) -> bool:
        """Remove a further name if it still leads to `target`; returns whether it was removed."""
        with disk_errors("cannot remove a name", hash=name.hex), self._tree.marker.held():
            return self._unlink(name.hex, target_of(target), nowhere=False)

    def sweep_names(self, *, remove: bool) -> Iterator[str]:
        """Yield the further names that lead nowhere, and those by algorithms that are not kept."""
        for shard in self.listing.shards():
            for name in self.listing.names(shard):
                with disk_errors("cannot sweep the names"):
                    text = self._text(name)
                    if text is None or not self._leads_nowhere(name, text):
                        continue
                    if remove:
                        with self._tree.marker.held():
                            if not self._unlink(name, text, nowhere=True):
                                continue
                yield name

    def name_sizes(self) -> Iterator[int]:
        """Yield for each further name the bytes that it takes of the disk, apart from an inode."""
        for algorithm in self._tree.marker.refresh().names:
            for entry in self.listing.entries(algorithm, None):
                if entry.link:
                    yield entry.status.st_blocks * 512

    def require_room(self, names: int) -> None:
        """Raise StorageFull unless there is room for so many more names of every blob."""
        with disk_errors("cannot examine the disk"):
            number = names * sum(len(self.listing.names(shard)) for shard in self.listing.shards())
            free = os.statvfs(self._tree.root)
        # Some file systems make inodes as they need them, and say that they have none at all.
        if free.f_files and free.f_favail < number:
            raise StorageFull(f"{number:,} names need as many inodes, but {free.f_favail:,} are free")
        if (room := free.f_bavail * free.f_frsize) < (needed := number * free.f_frsize):
            raise StorageFull(f"{number:,} names may need {needed:,} bytes, but {room:,} are free")

    def settle_names(self) -> Iterator[Digest]:
        """Make names that lead to an old name lead to the primary one instead; yields each."""
        marker = self._tree.marker.refresh()
        # Names by the old algorithm lead to primary ones from the beginning.
        for algorithm in marker.names if marker.migrating is None else set(marker.names) - {marker.migrating}:
            for name, target in self.links(algorithm):
                if target.algorithm is not marker.algorithm:
                    with disk_errors("cannot settle a name", hash=name.hex), self._tree.marker.held():
                        if self._settle(name, target, marker):
                            yield name

    def _settle(self, name: Digest, target: Digest, marker: Marker) -> bool:
        try:
            _, at = self._tree.find(target, stat_file)
        except BlobNotFound:
            return False
        if at.algorithm is not marker.algorithm:
            return False  # its blob has no primary name yet
        with self._tree.shard(name) as shard, locked(shard.fd):
            if not shard.leads(name, target):
                return False
            shard.rename([(name, at)], self._tree.staging)
            if self._tree.full:
                shard.sync()
        return True

    def _text(self, name: str) -> str | None:
        """Return the text of a link, None if there is none under this name."""
        with suppress(*ABSENT), Directory(f"{self._tree.root}/{name[:2]}", NAME) as shard:
            return read_link(name, shard.fd)
        return None

    def _leads_nowhere(self, name: str, text: str) -> bool:
        """Whether this is a further name that leads to no blob, or one by an algorithm that is not kept."""
        marker = self._tree.marker.last
        # Under a primary name there is no link of ours.
        if not is_link(text) or len(name) == 2 * marker.algorithm.size:
            return False
        try:
            self._tree.find(parse_any(marker.names, name), stat_file)
        except (ValueError, BlobNotFound):
            return True
        return False

    def _unlink(self, name: str, text: str, *, nowhere: bool) -> bool:
        """Remove a link if it has this text under the lock, and if it leads `nowhere`."""
        with suppress(*ABSENT), Shard(f"{self._tree.root}/{name[:2]}") as shard, locked(shard.fd):
            if read_link(name, shard.fd) == text and (not nowhere or self._leads_nowhere(name, text)):
                os.unlink(name, dir_fd=shard.fd)
                return True
        return False
