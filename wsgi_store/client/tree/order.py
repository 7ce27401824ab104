"""Sorting more files than fit in memory."""

import heapq
import marshal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Self

Record = tuple[bytes, int, str, int, int | None]
"""A file of a tree: the bytes of its digest, its size, its path, its mode, and its time of change."""

# Records in memory, about 300 bytes each.
MOST = 50_000


class ByDigest:
    """Files in the order of their digests; more than `MOST` are sorted through temporary files."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._records: list[Record] = []
        self._files: list[IO[bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, record: Record) -> None:
        """Add a file."""
        self._records.append(record)
        if len(self._records) >= MOST:
            self._spill()

    def _spill(self) -> None:
        file = self._stack.enter_context(tempfile.TemporaryFile(dir=self._directory))
        for record in sorted(self._records, key=_key):
            marshal.dump(record, file)
        self._files.append(file)
        self._records.clear()

    def __iter__(self) -> Iterator[Record]:
        self._records.sort(key=_key)
        return heapq.merge(*map(_read, self._files), self._records, key=_key)


def _key(record: Record) -> tuple[bytes, int]:
    return record[:2]


def _read(file: IO[bytes]) -> Iterator[Record]:
    file.seek(0)
    while True:
        try:
            record: Record = marshal.load(file)
        except EOFError:
            return
        yield record
