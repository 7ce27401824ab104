"""Folders that come back: a tree and its blobs are restored to a directory."""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from wsgi_store.client.tree.entry import TOP, Entry, Kind, to_bytes, to_text
from wsgi_store.client.tree.fetch import Blobs
from wsgi_store.client.tree.files import Files
from wsgi_store.client.tree.folding import Twins, folded, folds
from wsgi_store.client.tree.format import lines, read
from wsgi_store.client.tree.links import Links
from wsgi_store.client.tree.order import ByDigest, Record
from wsgi_store.client.tree.part import TREE, Part, open_part
from wsgi_store.client.tree.places import Places, permitted
from wsgi_store.client.tree.restored import FULL, Restored, Tell
from wsgi_store.client.tree.verified import open_verified
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import OutwardLink, WSGIStoreError

_LIBC = ctypes.CDLL(None, use_errno=True)


def restore(  # pylint: disable=too-many-arguments
    blobs: Blobs,
    tree: Digest,
    below: str,
    directory: str,
    *,
    outward_links: bool,
    jobs: int,
    progress: Tell | None,
) -> Iterator[Restored]:
    """Restore a tree, whose path on the server is `below`; yields what became of its entries.

    Raises what would hit all of them. A later call goes on where this one ends.
    """
    with ExitStack() as stack:
        places = stack.enter_context(Places(directory))
        part = stack.enter_context(_part(places, f".{tree.hex}.part", directory))
        records = stack.enter_context(ByDigest(part.path))
        try:
            _download(blobs, tree, below, part)
            work = _Restore(places, part, records)
        except (WSGIStoreError, OSError) as error:
            part.remove()
            if places.is_new(to_bytes(TOP)):
                with suppress(OSError):
                    os.rmdir(directory)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, directory) from None
            raise
        yield from work.failed
        yield from work.make_directories()
        with Files(
            places, part, blobs, work.algorithm, jobs=jobs, total=work.total, progress=progress
        ) as files:
            for one in files.restore(work.records()):
                work.is_changed |= one.written
                yield one
        yield from work.make_links(outward=outward_links)
        yield from work.end()


def _part(places: Places, name: str, directory: str) -> Part:
    try:
        return permitted(places.top, lambda: open_part(name, places.top))
    except OSError as error:
        raise type(error)(error.errno, error.strerror, os.path.join(directory, name)) from None


def _download(blobs: Blobs, tree: Digest, below: str, part: Part) -> None:
    """Download a tree, unless an earlier restore has."""
    fd = open_verified(TREE.encode(), part.fd, tree)
    if fd is not None:
        os.close(fd)
        return
    blobs.save(tree, f"{part.path}/{TREE}", below=below, size=None, progress=None)


class _Restore:
    """The entries of a tree, all of which are read before the first one is restored."""

    def __init__(self, places: Places, part: Part, records: ByDigest) -> None:
        """Read the tree in `part`; raises MalformedTree."""
        self._places = places
        self._part = part
        self._records = records
        self._twins = Twins() if folds(part) else None
        self._directories: list[Entry] = []
        self._links: list[Entry] = []
        self._lost: set[str] = set()
        self.is_changed = False
        """Whether anything was written."""
        self.algorithm = Algorithm.SHA256
        """The algorithm of the digests."""
        self.total = 0
        """The bytes of all files."""
        self.failed: list[Restored] = []
        """The entries that the file system takes for earlier ones."""
        with open(f"{part.path}/{TREE}", "rb") as file:
            for entry in read(lines(file)):
                self._add(entry)

    def _add(self, entry: Entry) -> None:
        if self._is_lost(entry.path) or self._is_twin(entry):
            if entry.kind is Kind.DIRECTORY:
                self._lost.add(entry.path)
        elif entry.kind is Kind.DIRECTORY:
            self._directories.append(entry)
        elif entry.kind is Kind.LINK:
            self._links.append(entry)
        else:
            assert entry.hash is not None and entry.size is not None
            self.algorithm = entry.hash.algorithm
            self.total += entry.size
            self._records.add((entry.hash.raw, entry.size, entry.path, entry.mode, entry.modified))

    def _is_lost(self, path: str) -> bool:
        """Whether the directory of a path could not be made."""
        return bool(self._lost) and path.rpartition("/")[0] in self._lost

    def _is_twin(self, entry: Entry) -> bool:
        """Whether the file system takes an entry for an earlier one; keeps the failure."""
        first = None if self._twins is None else self._twins.twin(entry.path)
        if first is None:
            return False
        told = f"this file system takes the name for that of {first}"
        self.failed.append(Restored(entry, False, FileExistsError(errno.EEXIST, told)))
        return True

    def make_directories(self) -> Iterator[Restored]:
        """Make the directories; yields those that cannot be made."""
        for entry in self._directories:
            error: OSError = NotADirectoryError(errno.ENOTDIR, "")
            if not self._is_lost(entry.path):
                try:
                    self._places.make(to_bytes(entry.path))
                    self.is_changed |= self._places.is_new(to_bytes(entry.path))
                    continue
                except OSError as failure:
                    error = failure
                if error.errno in FULL:
                    raise error
                yield Restored(entry, False, error)
            self._lost.add(entry.path)

    def records(self) -> Iterator[Record]:
        """Yield the files whose directories are there, in the order of their digests."""
        return (record for record in self._records if not self._is_lost(record[2]))

    def make_links(self, *, outward: bool) -> Iterator[Restored]:
        """Make the symbolic links; with `outward` also those that lead out of the directory."""

        def key(path: bytes) -> object:
            return path if self._twins is None else folded(to_text(path))

        links = Links(self._places, key)
        for entry in self._links:
            links.add(to_bytes(entry.path), to_bytes(entry.target or ""))
        for entry in self._links:
            if self._is_lost(entry.path):
                continue
            path, target = to_bytes(entry.path), to_bytes(entry.target or "")
            try:
                if not outward and links.leads_out(path, target):
                    raise OutwardLink(f"leads out of the directory, to {entry.target!a}", target=entry.target)
                written = self._places.target(path) != target
                if written:
                    self._make_link(path, target)
                    self.is_changed = True
                yield Restored(entry, written)
            except (OutwardLink, OSError) as error:
                if isinstance(error, OSError) and error.errno in FULL:
                    raise
                yield Restored(entry, False, error)

    def _make_link(self, path: bytes, target: bytes) -> None:
        name = self._part.link(target)
        try:
            self._places.place(name, self._part.fd, path)
        except BaseException:
            self._part.drop(name)
            raise

    def end(self) -> Iterator[Restored]:
        """Set the modes of the directories, which may take away the right to write to them."""
        for entry in reversed(self._directories):
            if entry.path in self._lost:
                continue
            path = to_bytes(entry.path)
            if entry.path == TOP:
                # Whoever is told that a file is restored may rely on it after a power failure.
                if self.is_changed and _LIBC.syncfs(self._places.top):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                self._part.remove()
            try:
                self._places.set_mode(path, entry.mode)
            except OSError as error:
                yield Restored(entry, False, error)
            else:
                yield Restored(entry, self._places.is_new(path))
