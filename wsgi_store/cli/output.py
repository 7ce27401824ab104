"""The output of commands, for people and for programs, and their exit statuses."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import click

from wsgi_store import errors
from wsgi_store.cli.progress import Bars, bars

JSON = "wsgi_store.json"
QUIET = "wsgi_store.quiet"
# Rows of a table that are laid out together; a listing need not fit in memory.
TABLE_ROWS = 1000


class Exit(NamedTuple):
    """An exit status, its meaning, and the failures that have it."""

    status: int
    meaning: str
    kinds: tuple[type[BaseException], ...] = ()


DIFFERENT = 1
WRONG = 2
DAMAGED = 5
UNVERIFIED = 8
EXITS = [
    Exit(0, "all went well"),
    Exit(DIFFERENT, "any other failure; of `diff`: the folders differ", (Exception,)),
    Exit(
        WRONG,
        "an option, argument or setting is wrong, or `diff` failed",
        (errors.ConfigError, errors.MalformedHash, errors.MalformedTree),
    ),
    Exit(3, "no such blob", (errors.BlobNotFound,)),
    Exit(
        4,
        "the token is missing, unknown or lacks a scope, or the store is read-only",
        (errors.Unauthenticated, errors.Denied, errors.ReadOnly),
    ),
    Exit(
        DAMAGED,
        "bytes do not match their hash",
        (errors.DigestMismatch, errors.UnexpectedDigest, errors.DigestCollision),
    ),
    Exit(
        6,
        "the server is unreachable, or its store is unavailable",
        (
            errors.Unreachable,
            errors.StoreUnavailable,
            errors.RequestTimeout,
            errors.IncompleteBody,
            errors.UploadLocked,
        ),
    ),
    Exit(7, "the file is too large, or the disk is full", (errors.TooLarge, errors.StorageFull)),
    Exit(UNVERIFIED, "`verify` or `migrate` could not read every blob, or did not finish"),
    Exit(9, "no store at this URL", (errors.NotFound, errors.UnexpectedAnswer)),
    Exit(130, "interrupted", (KeyboardInterrupt,)),
    Exit(141, "the reader of the output has gone", (BrokenPipeError,)),
]
STATUSES = {kind: exit_.status for exit_ in EXITS for kind in exit_.kinds}


def status_of(error: BaseException) -> int:
    """Return the exit status for a failure."""
    if isinstance(error, OSError) and error.errno in errors.StorageFull.errnos:
        return STATUSES[errors.StorageFull]
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


class Output:
    """Prints rows on standard output and failures on standard error; make it inside a command.

    A row is the fields of `columns`, separated by tabs, or aligned as a table on a terminal. With
    `--json` it is an object with all fields.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.status = 0
        """The highest exit status of the failures so far."""
        self._columns = columns
        meta = click.get_current_context().meta
        self.as_json = bool(meta.get(JSON))
        """Whether the output is for programs."""
        self._quiet = bool(meta.get(QUIET))
        self._print: Callable[[str], None] = _echo
        self.live = sys.stderr.isatty() and not self.as_json and not self._quiet
        """Whether progress is shown."""

    def row(self, **values: object) -> None:
        """Print one row."""
        self.rows([values])

    def rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Print rows by one write, which is faster than a write for each."""
        if not self._quiet and (lines := "\n".join(map(self._line, rows))):
            self._print(lines)

    def _line(self, row: dict[str, Any]) -> str:
        if self.as_json:
            return json.dumps(row)
        return "\t".join(printable(row.get(name, "")) for name in self._columns)

    def table(self, rows: Iterable[dict[str, Any]]) -> None:
        """Print rows as they arrive, on a terminal as a table."""
        remaining = iter(rows)
        if self.as_json or not sys.stdout.isatty():
            while part := list(islice(remaining, TABLE_ROWS)):
                self.rows(part)
            return
        from rich.console import Console  # pylint: disable=import-outside-toplevel  # slow to import
        from rich.table import Table  # pylint: disable=import-outside-toplevel
        from rich.text import Text  # pylint: disable=import-outside-toplevel

        while part := list(islice(remaining, TABLE_ROWS)):
            table = Table(box=None, header_style="bold")
            for name in self._columns:
                table.add_column(name, overflow="fold", justify="right" if name == "size" else "left")
            for row in part:
                cells = [
                    size_of(row[name]) if name == "size" and name in row else printable(row.get(name, ""))
                    for name in self._columns
                ]
                table.add_row(*map(Text, cells))
            Console().print(table)

    def summary(self, text: str, **values: object) -> None:
        """Print the result, unless only failures are wanted: a sentence, or with `--json` an object."""
        if not self._quiet:
            self._print(json.dumps(values) if self.as_json else text)

    def note(self, about: object, text: str) -> None:
        """Print a remark that is no failure, unless the output is for programs."""
        if not self.as_json and not self._quiet:
            say(about, text)

    def failed(self, error: Exception, **about: object) -> None:
        """Report a failure that does not end the command; `about` names what failed."""
        self.status = max(self.status, status_of(error))
        tell(error, as_json=self.as_json, **about)

    @contextmanager
    def progress(self) -> Iterator[Bars]:
        """Show progress bars, if a person watches."""
        if not self.live:
            yield Bars(None)
            return
        with bars() as (shown, above):
            self._print = above or self._print
            yield shown
        self._print = _echo


def _echo(text: str) -> None:
    # What is printed has no control characters, so click need not look for them.
    click.echo(text, color=True)


def size_of(number: int) -> str:
    """Return a number of bytes for people, such as 1.2 GB."""
    from rich.filesize import decimal  # pylint: disable=import-outside-toplevel  # slow to import

    return decimal(number)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number of things, such as 1 blob or 2 blobs."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def printable(value: object) -> str:
    """Return a value as text without control characters and line breaks."""
    text = ",".join(value) if isinstance(value, list) else str(value)
    return text if text.isprintable() else ascii(text)[1:-1]


def tell(error: BaseException, *, as_json: bool, **about: object) -> None:
    """Print a failure on standard error, as a line or as JSON."""
    if isinstance(error, errors.WSGIStoreError):
        code, detail, evidence = error.code, error.message, error.evidence
        # Unlike an HTTP client, the operator may see the cause; that of a disk is in the message.
        if isinstance(error, errors.StoreError) and not isinstance(error.__cause__, OSError | None):
            detail += f" ({error.__cause__})"
    else:
        assert isinstance(error, OSError)
        code, detail, evidence = "os_error", error.strerror or str(error), {}
        if error.filename is not None:
            about.setdefault("path", os.fsdecode(error.filename))
    if as_json:
        click.echo(json.dumps({"code": code, "detail": detail, **evidence, **about}), err=True)
    else:
        if "path" in about or str(about.get("hash")) in detail:
            about.pop("hash", None)
        say(*about.values(), detail)


def say(*words: object) -> None:
    """Print a line on standard error."""
    click.echo(f"wsgi-store: {': '.join(map(printable, words))}", err=True)
