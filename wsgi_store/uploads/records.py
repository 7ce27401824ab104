"""What is written down of an upload: what was announced, and what became of it."""

import dataclasses
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.filesystem import MAX_SMALL_FILE, open_file, write_all
from wsgi_store.staging import Receipt
from wsgi_store.store.contract import Added

ANNOUNCED = "upload.json"
DONE = "done.json"
NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What a client says of a file before it sends it."""

    length: int | None = None
    """In bytes; None if it is not known yet."""
    expected: tuple[Digest, ...] = ()
    name: str | None = None
    metadata: str = ""
    """As the client wrote it."""
    max_size: int | None = None
    until: float | None = None
    """When the upload expires at the latest, in seconds since the epoch."""


def announced(data: bytes) -> Announced:
    """Read what was announced; raises ValueError."""
    fields = json.loads(data)
    expected = tuple(_digest(text) for text in fields.pop("expected"))
    return Announced(expected=expected, **fields)


def write(what: Announced, folder: int, *, sync: bool) -> None:
    """Write what was announced, in one step; raises OSError."""
    fields = {one.name: getattr(what, one.name) for one in dataclasses.fields(what)}
    fields["expected"] = [str(digest) for digest in what.expected]
    with _new(json.dumps(fields).encode(), folder, sync=sync) as draft:
        os.rename(draft, ANNOUNCED, src_dir_fd=folder, dst_dir_fd=folder)
    if sync:
        os.fsync(folder)


def write_once(name: str, data: bytes, folder: int, *, sync: bool) -> None:
    """Write a file in one step unless it exists; raises OSError."""
    with _new(data, folder, sync=sync) as draft, suppress(FileExistsError):
        os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    if sync:
        os.fsync(folder)


@contextmanager
def _new(data: bytes, folder: int, *, sync: bool) -> Iterator[str]:
    """Yield the name of a new file, which is removed unless it gets another."""
    draft = f".{secrets.token_hex(16)}"
    fd = os.open(draft, NEW, 0o600, dir_fd=folder)
    try:
        try:
            write_all(fd, data)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        yield draft
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder)


def receipt(folder: int) -> Receipt | None:
    """Read the result of an upload, None if it is not finished; raises OSError and ValueError."""
    try:
        fields = json.loads(read(DONE, folder))
    except FileNotFoundError:
        return None
    names = tuple(map(_digest, fields["names"]))
    ambiguous = tuple(map(Algorithm, fields["ambiguous"]))
    return Receipt(names[0], fields["size"], Added(fields["added"]), names, ambiguous)


def finish(folder: int, result: Receipt, last: int, *, sync: bool) -> None:
    """Write the result, and remove the parts up to the last; raises OSError."""
    fields = {
        "names": [str(name) for name in result.names],
        "size": result.size,
        "added": result.added.value,
        "ambiguous": [one.value for one in result.ambiguous],
    }
    write_once(DONE, json.dumps(fields).encode(), folder, sync=sync)
    for number in range(last + 1):
        for name in (str(number), f"{number}.note", f"{number}.fence", f"{number}.end"):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)


def read(name: str, folder: int) -> bytes:
    """Read a small file; raises OSError."""
    fd, _ = open_file(name, folder)
    try:
        return os.read(fd, MAX_SMALL_FILE)
    finally:
        os.close(fd)


def _digest(text: str) -> Digest:
    algorithm, _, hash_ = text.partition(":")
    return Algorithm(algorithm).parse(hash_)
