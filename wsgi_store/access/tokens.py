"""The tokens that a server accepts, read again when their file changes."""

import errno
import hashlib
import os
import stat
import time
from dataclasses import dataclass, field
from threading import Lock

from wsgi_store.access.grant import Grant
from wsgi_store.access.token_file import EXPECTED, NOSTR, entries
from wsgi_store.errors import ConfigError, StoreUnavailable
from wsgi_store.logs import logger

# Seconds without a change after which a file counts as complete, whatever it looks like.
SETTLED = 1.0
# Errors that concern this process or machine, and say nothing about the file.
SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}

Stamp = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The token file as it was read once."""

    stamp: Stamp
    """Differs for a changed file, whatever times it was given; None if there is no file."""
    grants: dict[str, Grant] = field(default_factory=dict)
    """By the credentials in the file."""
    problem: str | None = None
    """What is wrong with the file, for the log."""
    usable: bool = True
    """Whether tokens can be checked against it: malformed lines do not affect the others."""
    complete: bool = True
    """False if the file may still be being written."""

    @classmethod
    def read(cls, path: str) -> "Snapshot":
        """Read the file; raises OSError only for an error that says nothing about it."""
        stamp = stamp_of(path)
        try:
            # Not blocking, so that a FIFO in its place cannot hang a request.
            with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
                status = os.fstat(file.fileno())
                stamp = _stamp(status)
                problem = _unsafe(path, status)
                data = b"" if problem else file.read()
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            # An existing file gets a stamp that never matches, so that the next request tries again.
            stamp = stamp and ()
            return cls(stamp, problem=f"cannot read {path}: {error.strerror}", usable=False, complete=False)
        if problem:
            return cls(stamp, problem=f"{path} {problem}", usable=False, complete=False)
        # Bytes that are not UTF-8 are malformed anyway, except in a comment.
        found, malformed = entries(data.decode("utf-8", "replace").split("\n"))
        grants = {entry.credential: Grant(entry.scopes, name=entry.name) for entry in found}
        problem = f"{path}, line {malformed[0]}: {EXPECTED}" if malformed else None
        if malformed[1:]:
            problem = f"{problem}; {len(malformed) - 1} more malformed"
        return cls(stamp, grants, problem, complete=data.endswith(b"\n") and not malformed)


class Tokens:
    """The tokens in a file, which is read again when it changes.

    Changes take effect at once. If the file looks incomplete or cannot be read, tokens that it lacks are
    accepted until it has been unchanged for a second. After that they are rejected; without a usable file
    every token is.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = Lock()
        try:
            self._file = Snapshot.read(path)
        except OSError as error:
            raise ConfigError(f"WSGI_STORE_TOKENS: cannot read {path}: {error.strerror}") from None
        if self._file.problem is not None:
            raise ConfigError(f"WSGI_STORE_TOKENS: {self._file.problem}")
        self._before: dict[str, Grant] = {}
        self._until = 0.0

    def find(self, token: bytes) -> Grant | None:
        """Return the grant of a token; raises StoreUnavailable if no token can be checked."""
        # Looked up by its hash: the time that takes reveals nothing about other tokens.
        return self._grant(hashlib.sha256(token).hexdigest())

    def find_key(self, key: str) -> Grant | None:
        """Return the grant of a public key of Nostr in hex; raises StoreUnavailable as `find` does."""
        return self._grant(f"{NOSTR}{key}")

    def _grant(self, credential: str) -> Grant | None:
        file = self._refresh()
        grant = file.grants.get(credential)
        if grant is None and time.monotonic() < self._until:
            grant = self._before.get(credential)
        if grant is None and not file.usable:
            raise _unusable(file)
        return grant

    def check(self) -> bool:
        """Return whether the whole file is valid; raises StoreUnavailable if it is unusable."""
        file = self._refresh()
        if not file.usable and time.monotonic() >= self._until:
            raise _unusable(file)
        return file.problem is None

    def _refresh(self) -> Snapshot:
        if stamp_of(self._path) == self._file.stamp:
            return self._file
        with self._lock:
            old = self._file
            if stamp_of(self._path) == old.stamp:
                return old  # another thread has read it
            try:
                new = Snapshot.read(self._path)
            except OSError as error:
                logger.error("cannot read the token file again: {}", error.strerror)
                return old
            if old.usable:
                now = time.monotonic()
                kept = self._before if now < self._until else {}
                self._before = kept | old.grants
                self._until = now + (0.0 if new.complete else max(0.0, SETTLED - _age(self._path)))
            elif new.complete:
                self._until = 0.0
            if new.problem is not None and new.problem != old.problem:
                logger.error("invalid token file: {}", new.problem)
            self._file = new
            return new


def stamp_of(path: str) -> Stamp:
    """Return what differs between a file and a changed one; None if it cannot be examined."""
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev


def _age(path: str) -> float:
    """Seconds since the file changed, or its directory if the file is gone; SETTLED if neither is there."""
    for place in (path, os.path.dirname(os.path.abspath(path))):
        try:
            return max(0.0, time.time() - os.stat(place).st_ctime)
        except OSError:
            continue
    return SETTLED


def _unsafe(path: str, status: os.stat_result) -> str | None:
    """Return why others could add tokens of their own to the file; None if they cannot."""
    trusted = (0, os.geteuid())
    ours = f"not to root or to the user {trusted[1]} that this process runs as"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_uid not in trusted:
        return f"belongs to the user {status.st_uid}, {ours}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by others than its owner: chmod go-w"
    directory = os.stat(os.path.dirname(os.path.realpath(path)))
    if directory.st_uid not in trusted:
        return f"lies in a directory that belongs to the user {directory.st_uid}, {ours}"
    if directory.st_mode & stat.S_IWOTH and not directory.st_mode & stat.S_ISVTX:
        return "lies in a directory in which everybody can replace it: chmod o-w"
    return None


def _unusable(file: Snapshot) -> StoreUnavailable:
    error = StoreUnavailable("the token file cannot be used")
    error.__cause__ = ConfigError(str(file.problem))
    return error
