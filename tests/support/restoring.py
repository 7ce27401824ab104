"""Trees of chosen contents, and folders as a test finds them."""

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tests.support.strangers import NOBODY
from wsgi_store.client import Client
from wsgi_store.client.tree.entry import TOP, Entry, Kind, place
from wsgi_store.client.tree.format import write
from wsgi_store.client.tree.restored import Restored
from wsgi_store.digest import Algorithm, Digest

TIME = 1_700_000_000_123_456_789


@dataclass(frozen=True)
class File:
    """A file of a tree, whose blob exists unless `size` or `data` are to be wrong."""

    data: bytes = b""
    mode: int = 0o644
    modified: int = TIME
    size: int | None = None


@dataclass(frozen=True)
class Link:
    """A symbolic link of a tree."""

    target: str


@dataclass(frozen=True)
class Folder:
    """A directory of a tree; those with mode 0755 need not be named."""

    mode: int = 0o755


Thing = File | Link | Folder


def tree_of(things: Mapping[str, Thing]) -> bytes:
    """The text of a tree."""
    inner: dict[str, Thing] = {TOP: Folder()}
    for path in things:
        for depth in range(1, path.count("/") + 1):
            inner["/".join(path.split("/")[:depth])] = Folder()
    inner.update(things)
    return b"".join(write(_entry(path, inner[path]) for path in sorted(inner, key=place)))


def _entry(path: str, thing: Thing) -> Entry:
    match thing:
        case File(data, mode, modified, size):
            digest = Digest(Algorithm.SHA256, hashlib.sha256(data).digest())
            return Entry(path, Kind.FILE, mode, len(data) if size is None else size, modified, digest)
        case Link(target):
            return Entry(path, Kind.LINK, 0o777, target=target)
        case Folder(mode):
            return Entry(path, Kind.DIRECTORY, mode)


def put_tree(client: Client, things: Mapping[str, Thing]) -> str:
    """Upload a tree and its files; returns the hash of the tree."""
    for data in {thing.data for thing in things.values() if isinstance(thing, File)}:
        client.put(data)
    return client.put(tree_of(things)).hash


def restored(client: Client, tree: str, directory: Path, **options: bool) -> dict[str, Restored]:
    """What became of each entry, by its path."""
    return {one.entry.path: one for one in client.get_tree(tree, directory, **options)}


def failures(outcome: Mapping[str, Restored]) -> dict[str, str]:
    """Why entries could not be restored."""
    return {path: str(one.error) for path, one in outcome.items() if one.error is not None}


def found(directory: Path) -> dict[str, tuple[object, ...]]:
    """What is in a directory: contents, modes and times of files, targets of links, modes of directories."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in (directory, *directory.rglob("*")):
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        name = str(path.relative_to(directory))
        if path.is_symlink():
            seen[name] = (os.readlink(path),)
        elif path.is_dir():
            seen[name] = (mode,)
        else:
            seen[name] = (path.read_bytes(), mode, status.st_mtime_ns)
    return seen


def expected(things: Mapping[str, Thing]) -> dict[str, tuple[object, ...]]:
    """What `found` finds once a tree is restored to a new directory."""
    seen: dict[str, tuple[object, ...]] = {TOP: (0o755,)}
    for path, thing in things.items():
        for depth in range(1, path.count("/") + 1):
            seen.setdefault("/".join(path.split("/")[:depth]), (0o755,))
        match thing:
            case File(data, mode, modified):
                seen[path] = (data, mode, modified)
            case Link(target):
                seen[path] = (target,)
            case Folder(mode):
                seen[path] = (mode,)
    return seen


def as_other_user(act: Callable[[], None]) -> None:
    """Do something in a process of an ordinary user."""

    def run() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        act()

    process = get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == 0
