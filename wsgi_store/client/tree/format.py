"""The text of a tree: mtree(5) with paths, so that bsdtar(1) and mtree(8) read it.

Equal folders have equal text: every value has one form, and the lines have one order.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Protocol

from wsgi_store.client.tree.entry import TOP, Entry, Kind, to_bytes, to_text
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import MalformedTree

# The first line, by which programs know the format.
SIGNATURE = b"#mtree\n"
# Bytes of the longest line; a path and a target of PATH_MAX bytes, all escaped, have half of it.
LONGEST_LINE = 64 << 10
# Numbers of the file system have 64 bits.
LIMIT = 1 << 63
SECOND = 10**9
# mtree(8) takes these bytes for its own syntax, or for a pattern.
_UNSAFE = re.compile(rb"[^!-~]|[#=\\*?\[]")
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2})")
_MODE = re.compile(rb"0[0-7]{3}")
_SIZE = re.compile(rb"0|[1-9][0-9]{0,18}")
_TIME = re.compile(rb"(0|-?[1-9][0-9]{0,18})\.([0-9]{9})")
_HASH = re.compile(rb"[0-9a-f]+")
_ALGORITHMS = {algorithm.value.encode(): algorithm for algorithm in Algorithm}


def write(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield the lines of a tree; `entries` begin with the top and are in the order of `place`.

    Raises OSError for a path that is too long.
    """
    yield SIGNATURE
    for entry in entries:
        line = b"%s type=%s mode=%04o%s\n" % (
            b"." if entry.path == TOP else b"./" + _escaped(to_bytes(entry.path)),
            entry.kind.value.encode(),
            entry.mode,
            _more(entry),
        )
        if len(line) > LONGEST_LINE:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), entry.path)
        yield line


def _more(entry: Entry) -> bytes:
    if entry.kind is Kind.LINK:
        assert entry.target is not None
        return b" link=" + _escaped(to_bytes(entry.target))
    if entry.kind is Kind.DIRECTORY:
        return b""
    assert entry.size is not None and entry.modified is not None and entry.hash is not None
    seconds, rest = divmod(entry.modified, SECOND)
    name, hash_ = entry.hash.algorithm.value.encode(), entry.hash.hex.encode()
    return b" size=%d time=%d.%09d %sdigest=%s" % (entry.size, seconds, rest, name, hash_)


def _escaped(raw: bytes) -> bytes:
    return _UNSAFE.sub(lambda byte: b"\\%03o" % byte[0][0], raw)


class Lines(Protocol):  # pylint: disable=too-few-public-methods
    """A file that is read by lines."""

    def readline(self, size: int, /) -> bytes:
        """Read a line, or its first `size` bytes."""


def lines(file: Lines) -> Iterator[bytes]:
    """Yield the lines of a file for `read`, of a longer one than it accepts only the beginning."""
    return iter(partial(file.readline, LONGEST_LINE + 1), b"")


# pylint: disable-next=redefined-outer-name  # they are the lines
def read(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the entries of a tree; raises MalformedTree for any line that `write` would not write.

    So a path stays below the top, comes once, and comes behind its directory. Targets lead anywhere.
    """
    order = _Order()
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            if number == 1:
                if line != SIGNATURE:
                    raise ValueError("this is no tree, whose first line is #mtree")
                continue
            entry = _entry(line)
            order.check(entry)
        except ValueError as error:
            raise MalformedTree(f"line {number}: {error}", line=number) from None
        yield entry
    if number < 2:
        raise MalformedTree(f"line {number + 1}: the tree ends too early", line=number + 1)


class _Order:
    """Compares the place of each entry with those before it."""

    def __init__(self) -> None:
        # The directories from the top to the latest entry: the bytes of each path, and its latest name.
        self._directories: list[tuple[bytes, bytes]] = []
        self._algorithm: Algorithm | None = None

    def check(self, entry: Entry) -> None:
        """Raise ValueError if an entry must not follow those before it."""
        is_directory = entry.kind is Kind.DIRECTORY
        if not self._directories:
            if entry.path != TOP or not is_directory:
                raise ValueError("the first path must be the directory .")
            self._directories.append((b"", b""))
            return
        path = to_bytes(entry.path)
        directory, _, name = path.rpartition(b"/")
        while self._directories[-1][0] != directory:
            self._directories.pop()
            if not self._directories:
                raise ValueError("no line of its directory is above, or the paths are not in order")
        before = self._directories[-1][1]
        if name <= before or entry.path == TOP:
            raise ValueError("the path is there twice, or the paths are not in order")
        self._directories[-1] = directory, name
        if is_directory:
            self._directories.append((path, b""))
        if entry.hash is not None:
            if entry.hash.algorithm is not (self._algorithm or entry.hash.algorithm):
                raise ValueError("the hash is by another algorithm than those before")
            self._algorithm = entry.hash.algorithm


def _entry(line: bytes) -> Entry:
    if len(line) > LONGEST_LINE:
        raise ValueError(f"longer than {LONGEST_LINE} bytes")
    if line[-1:] != b"\n":
        raise ValueError("cut off")
    match line[:-1].split(b" "):
        case [path, b"type=dir", mode]:
            return Entry(_path(path), Kind.DIRECTORY, _mode(mode))
        case [path, b"type=link", mode, target]:
            return Entry(_path(path), Kind.LINK, _mode(mode), target=_target(target))
        case [path, b"type=file", mode, size, time, digest]:
            return Entry(
                _path(path), Kind.FILE, _mode(mode), _size(size), modified=_time(time), hash=_digest(digest)
            )
    raise ValueError(
        "expected a path with type=dir mode=…, type=link mode=… link=…, or "
        "type=file mode=… size=… time=… and a digest"
    )


def _path(word: bytes) -> str:
    if word == b".":
        return TOP
    if word[:2] != b"./":
        raise ValueError(f"the path {_shown(word)} does not begin with ./")
    # The dot is never escaped.
    for component in word[2:].split(b"/"):
        if component in (b"", b".", b".."):
            raise ValueError(f"the path {_shown(word)} has a component that is empty, . or ..")
    return to_text(_unescaped(word[2:]))


def _unescaped(word: bytes) -> bytes:
    if not _UNSAFE.search(word):
        return word
    raw = _ESCAPE.sub(lambda octal: bytes([int(octal[1], 8)]), word)
    if b"\0" in raw:
        raise ValueError(f"{_shown(word)} has a byte that no file name has")
    if _escaped(raw) != word:
        raise ValueError(f"{_shown(word)} is not escaped as in a tree")
    return raw


def _shown(word: bytes) -> str:
    """A word of a line that somebody else wrote, for a message."""
    return ascii(word[:100].decode("utf-8", "replace")) + ("…" if len(word) > 100 else "")


def _value(word: bytes, key: bytes, form: re.Pattern[bytes]) -> re.Match[bytes]:
    if not word.startswith(key) or not (value := form.fullmatch(word, len(key))):
        raise ValueError(f"expected {key.decode()} with its value, not {_shown(word)}")
    return value


def _mode(word: bytes) -> int:
    return int(_value(word, b"mode=", _MODE)[0], 8)


def _size(word: bytes) -> int:
    size = int(_value(word, b"size=", _SIZE)[0])
    if size >= LIMIT:
        raise ValueError(f"no file has {size} bytes")
    return size


def _time(word: bytes) -> int:
    value = _value(word, b"time=", _TIME)
    seconds = int(value[1])
    if not -LIMIT <= seconds < LIMIT:
        raise ValueError(f"no file has the time {seconds}")
    return seconds * SECOND + int(value[2])


def _target(word: bytes) -> str:
    key, _, value = word.partition(b"=")
    if key != b"link" or not value:
        raise ValueError(f"expected link= with a target, not {_shown(word)}")
    return to_text(_unescaped(value))


def _digest(word: bytes) -> Digest:
    name, _, value = word.partition(b"digest=")
    algorithm = _ALGORITHMS.get(name)
    if algorithm is None or len(value) != 2 * algorithm.size or not _HASH.fullmatch(value):
        raise ValueError(f"expected a digest such as sha256digest=…, not {_shown(word)}")
    return Digest(algorithm, bytes.fromhex(value.decode()))
