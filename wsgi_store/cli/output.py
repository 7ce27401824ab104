"""What commands print, for people and for programs, and the statuses they exit with."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple, NoReturn

import click

from wsgi_store import errors
from wsgi_store.cli.progress import Bars, bars

JSON = "wsgi_store.json"
QUIET = "wsgi_store.quiet"
# A table is shown in parts of so many rows: how many there are need not be known, or fit in memory.
TABLE = 1000


class Exit(NamedTuple):
    """A status, what it means, and the failures that end with it."""

    status: int
    meaning: str
    kinds: tuple[type[BaseException], ...] = ()


DAMAGED = 5
UNVERIFIED = 8
EXITS = [
    Exit(0, "all went well"),
    Exit(1, "it failed for a reason that has no status of its own", (Exception,)),
    Exit(2, "an option, an argument or a setting is wrong", (errors.ConfigError, errors.MalformedHash)),
    Exit(3, "there is no such blob", (errors.BlobNotFound,)),
    Exit(
        4,
        "the token is missing, unknown or not enough, or the store is read-only",
        (errors.Unauthenticated, errors.Denied, errors.ReadOnly),
    ),
    Exit(
        DAMAGED,
        "bytes are not those of their hash",
        (errors.DigestMismatch, errors.UnexpectedDigest, errors.DigestCollision),
    ),
    Exit(
        6,
        "the server cannot be reached, or its store is unavailable",
        (
            errors.Unreachable,
            errors.StoreUnavailable,
            errors.RequestTimeout,
            errors.IncompleteBody,
        ),
    ),
    Exit(7, "the file is too large, or there is no room", (errors.TooLarge, errors.StorageFull)),
    Exit(UNVERIFIED, "`verify` could not read everything it set out to"),
    Exit(9, "no store answers at this URL", (errors.NotFound, errors.UnexpectedAnswer)),
    Exit(130, "interrupted", (KeyboardInterrupt,)),
    Exit(141, "nobody reads the output any more", (BrokenPipeError,)),
]
STATUSES = {kind: exit_.status for exit_ in EXITS for kind in exit_.kinds}

json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, _, value: ctx.meta.update({JSON: value}),
    help="Print JSON, an object a line; errors too, on standard error.",
)
quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, _, value: ctx.meta.update({QUIET: value}),
    help="Print failures alone, and show no progress.",
)


def status_of(error: BaseException) -> int:
    """The status to exit with after a failure."""
    if isinstance(error, OSError) and error.errno in errors.StorageFull.errnos:
        return STATUSES[errors.StorageFull]
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


class Output:
    """Rows on standard output, failures on standard error; made in a command.

    Where standard output is a terminal rows are tables, else fields separated by tabs: the
    `columns` of what each row has. With `--json` they are objects with all of it.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.status = 0
        """The highest of the failures that were told."""
        self._columns = columns
        meta = click.get_current_context().meta
        self._json = bool(meta.get(JSON))
        self._quiet = bool(meta.get(QUIET))
        self._print: Callable[[str], None] = click.echo
        self.live = sys.stderr.isatty() and not self._json and not self._quiet
        """Whether somebody sees progress."""

    def row(self, **values: object) -> None:
        """Print one row."""
        self.rows([values])

    def rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Print rows at once, which takes much less than one after the other; none, nothing."""
        if not self._quiet and (lines := "\n".join(map(self._line, rows))):
            self._print(lines)

    def _line(self, row: dict[str, Any]) -> str:
        if self._json:
            return json.dumps(row)
        return "\t".join(printable(row.get(name, "")) for name in self._columns)

    def table(self, rows: Iterable[dict[str, Any]]) -> None:
        """Print rows as they come, on a terminal as a table."""
        remaining = iter(rows)
        if self._json or not sys.stdout.isatty():
            while part := list(islice(remaining, TABLE)):
                self.rows(part)
            return
        from rich.console import Console  # pylint: disable=import-outside-toplevel  # slow to import
        from rich.filesize import decimal  # pylint: disable=import-outside-toplevel
        from rich.table import Table  # pylint: disable=import-outside-toplevel
        from rich.text import Text  # pylint: disable=import-outside-toplevel

        while part := list(islice(remaining, TABLE)):
            table = Table(box=None, header_style="bold")
            for name in self._columns:
                table.add_column(name, overflow="fold", justify="right" if name == "size" else "left")
            for row in part:
                cells = [
                    decimal(row[name]) if name == "size" else printable(row.get(name, ""))
                    for name in self._columns
                ]
                table.add_row(*map(Text, cells))
            Console().print(table)

    def summary(self, text: str, **values: object) -> None:
        """Print what it comes to: a sentence, with `--json` an object."""
        self._print(json.dumps(values) if self._json else text)

    def note(self, about: object, text: str) -> None:
        """Tell people of what is no failure; programs learn the outcome."""
        if not self._json and not self._quiet:
            _say(about, text)

    def failed(self, error: Exception, **about: object) -> None:
        """Tell of a failure that does not end the command; `about` says what it was doing."""
        self.status = max(self.status, status_of(error))
        tell(error, as_json=self._json, **about)

    @contextmanager
    def progress(self) -> Iterator[Bars]:
        """Show how far transfers are, to whoever sees it."""
        if not self.live:
            yield Bars(None)
            return
        with bars() as (shown, above):
            self._print = above or self._print
            yield shown
        self._print = click.echo


def printable(value: object) -> str:
    """A value, or several, without what would steer a terminal or break a line."""
    text = ",".join(value) if isinstance(value, list) else str(value)
    return text if text.isprintable() else ascii(text)[1:-1]


def tell(error: BaseException, *, as_json: bool, **about: object) -> None:
    """Print a failure on standard error, as a line or as JSON."""
    if isinstance(error, errors.WSGIStoreError):
        code, detail, evidence = error.code, error.message, error.evidence
        # Here the operator reads it, whose business the cause is; that of a disk is in the message.
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
        _say(*about.values(), detail)


def _say(*words: object) -> None:
    click.echo(f"wsgi-store: {': '.join(map(printable, words))}", err=True)


class _Lines(logging.Handler):
    """Shows people what is logged, such as why a server is waited for; programs learn the outcome."""

    def __init__(self, silent: Callable[[], bool]) -> None:
        super().__init__(logging.WARNING)
        self._silent = silent

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message as a line."""
        if not self._silent():
            _say(record.getMessage())


def _open_streams() -> None:
    """Open the standard streams that were closed: what needs one fails there, what is said is lost."""
    for name, flags, mode in (
        ("stdin", os.O_PATH, "r"),
        ("stdout", os.O_PATH, "w"),
        ("stderr", os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            # pylint: disable-next=consider-using-with  # open to the end of the process
            setattr(sys, name, open(os.open(os.devnull, flags), mode, encoding="utf-8"))


@contextmanager
def ending(as_json: Callable[[], bool], quiet: Callable[[], bool]) -> Iterator[None]:
    """Turn every failure of a command into a line and a status; raises SystemExit."""
    _open_streams()
    lines = _Lines(lambda: as_json() or quiet())
    logging.getLogger().addHandler(lines)
    try:
        yield
        sys.stdout.flush()
    except (KeyboardInterrupt, BrokenPipeError) as error:
        # Threads may still be transferring, and are not waited for.
        os._exit(status_of(error))  # pylint: disable=protected-access
    except (errors.WSGIStoreError, OSError) as error:
        tell(error, as_json=as_json())
        _end(error)
    finally:
        logging.getLogger().removeHandler(lines)


def _end(error: Exception) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError:
        # What Python flushes at its end goes nowhere, instead of failing once more.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    sys.exit(status_of(error))
