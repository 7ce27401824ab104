"""The file of tokens: who may do what, read again when it changes."""

import errno
import hashlib
import os
import stat
import time
from dataclasses import dataclass, field
from threading import Lock

from wsgi_store.access.grant import SCOPES, Grant
from wsgi_store.errors import ConfigError, StoreUnavailable
from wsgi_store.logs import logger

# Seconds that a file has to stay as it is before it is taken for whole, however it looks.
SETTLED = 1.0
# What this process or machine is short of says nothing about the file.
SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}
EXPECTED = f"expected a name, scopes out of {','.join(sorted(SCOPES))}, and a SHA-256 in hex"

Stamp = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class TokenFile:
    """What a file of tokens says, as far as it can be read and relied on."""

    stamp: Stamp
    """What tells it from a changed one, whatever times it was given; None without one."""
    grants: dict[str, Grant] = field(default_factory=dict)
    """What each token may do, by its SHA-256."""
    problem: str | None = None
    """What is wrong with it, for the log."""
    usable: bool = True
    """Whether it says anything at all: a wrong line takes nothing from the others."""
    whole: bool = True
    """Whether it looks as if nobody were still writing it."""

    @classmethod
    def read(cls, path: str) -> "TokenFile":
        """Read it; raises OSError only where that says nothing about the file."""
        stamp = stamp_of(path)
        try:
            # Not blocking: a pipe in its place must not hold a request for ever.
            with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
                status = os.fstat(file.fileno())
                stamp = _stamp(status)
                problem = _unsafe(path, status)
                data = b"" if problem else file.read()
        except OSError as error:
            if error.errno in SHORT:
                raise
            # One that is there is tried again with the next request.
            stamp = stamp and ()
            return cls(stamp, problem=f"cannot read {path}: {error.strerror}", usable=False, whole=False)
        if problem:
            return cls(stamp, problem=f"{path} {problem}", usable=False, whole=False)
        grants, wrong = parsed(data)
        problem = f"{path}, line {wrong[0]}: {EXPECTED}" if wrong else None
        if wrong[1:]:
            problem = f"{problem}; so are {len(wrong) - 1} more"
        return cls(stamp, grants, problem, whole=data.endswith(b"\n") and not wrong)


class Tokens:
    """The tokens of a file, read again when it changes.

    A line holds a name, scopes separated by commas, and the SHA-256 of the token in hex. What a
    changed file says counts at once. Where it looks as if it were still being written, or cannot be
    read, the tokens that it does not say count until it has been so for a second. After that
    those that were taken out are not known, and without a file that can be used nobody is.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = Lock()
        try:
            self._file = TokenFile.read(path)
        except OSError as error:
            raise ConfigError(f"WSGI_STORE_TOKENS: cannot read {path}: {error.strerror}") from None
        if self._file.problem is not None:
            raise ConfigError(f"WSGI_STORE_TOKENS: {self._file.problem}")
        self._before: dict[str, Grant] = {}
        self._until = 0.0

    def find(self, token: bytes) -> Grant | None:
        """The grant of a token; raises StoreUnavailable when no token can be judged."""
        file = self._read_again()
        # How long a hash takes to be found tells nothing of a token.
        digest = hashlib.sha256(token).hexdigest()
        grant = file.grants.get(digest)
        if grant is None and time.monotonic() < self._until:
            grant = self._before.get(digest)
        if grant is None and not file.usable:
            raise _unusable(file)
        return grant

    def check(self) -> bool:
        """Whether all of the file counts; raises StoreUnavailable when none of it does."""
        file = self._read_again()
        if not file.usable and time.monotonic() >= self._until:
            raise _unusable(file)
        return file.problem is None

    def _read_again(self) -> TokenFile:
        if stamp_of(self._path) == self._file.stamp:
            return self._file
        with self._lock:
            old = self._file
            if stamp_of(self._path) == old.stamp:
                return old  # another thread was faster
            try:
                new = TokenFile.read(self._path)
            except OSError as error:
                logger.error("the tokens could not be read again: {}", error.strerror)
                return old
            if old.usable:
                now = time.monotonic()
                kept = self._before if now < self._until else {}
                self._before = kept | old.grants
                self._until = now + (0.0 if new.whole else max(0.0, SETTLED - _age(self._path)))
            elif new.whole:
                self._until = 0.0
            if new.problem is not None and new.problem != old.problem:
                logger.error("the file of tokens is not as it should be: {}", new.problem)
            self._file = new
            return new


def stamp_of(path: str) -> Stamp:
    """What tells a file from a changed one; None where it cannot be looked at."""
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev


def _age(path: str) -> float:
    """Seconds since a file was changed or, where it is gone, its directory; endless where nobody can tell."""
    for place in (path, os.path.dirname(os.path.abspath(path))):
        try:
            return max(0.0, time.time() - os.stat(place).st_ctime)
        except OSError:
            continue
    return SETTLED


def _unsafe(path: str, status: os.stat_result) -> str | None:
    """Why a file is not to be relied on: others could write tokens of theirs into it."""
    trusted = (0, os.geteuid())
    ours = f"not to root or to the user {trusted[1]} that this process runs as"
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_uid not in trusted:
        return f"belongs to the user {status.st_uid}, {ours}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written to by others than its owner: chmod go-w"
    directory = os.stat(os.path.dirname(os.path.realpath(path)))
    if directory.st_uid not in trusted:
        return f"lies in a directory that belongs to the user {directory.st_uid}, {ours}"
    if directory.st_mode & stat.S_IWOTH and not directory.st_mode & stat.S_ISVTX:
        return "lies in a directory in which everybody can replace it: chmod o-w"
    return None


def parsed(data: bytes) -> tuple[dict[str, Grant], list[int]]:
    """The tokens of a file, and the numbers of the lines that cannot be read."""
    grants: dict[str, Grant] = {}
    wrong = []
    # What is no UTF-8 is no name, scope or hash either, unless it stands in a comment.
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), start=1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        scopes = frozenset(fields[1].split(",")) if len(fields) == 3 else frozenset()
        if scopes and scopes <= SCOPES and _is_sha256(fields[2]):
            grants[fields[2].lower()] = Grant(scopes, name=fields[0])
        else:
            wrong.append(number)
    return grants, wrong


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in text)


def _unusable(file: TokenFile) -> StoreUnavailable:
    error = StoreUnavailable("the file of tokens cannot be used")
    error.__cause__ = ConfigError(str(file.problem))
    return error
