"""The command `wsgi-store`: its table of commands, and how it ends; the extra `cli` installs it."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

try:
    import click
except ModuleNotFoundError:
    sys.exit("wsgi-store: click is missing: install the extra cli (docs/deployment.md)")

from wsgi_store import errors
from wsgi_store.cli.output import EXITS, JSON, QUIET, say, status_of, tell
from wsgi_store.version import __version__

# For each command its module, imported only when the command runs, and a line of help.
COMMANDS = {
    "serve": ("serve", "Run a server."),
    "put": ("upload", "Upload files."),
    "get": ("download", "Download blobs to files."),
    "cat": ("download", "Write blobs to standard output."),
    "stat": ("remote", "Show the sizes and URLs of blobs."),
    "ls": ("remote", "List blobs."),
    "rm": ("remote", "Remove blobs."),
    "diff": ("tree", "Show what differs between two folders."),
    "link": ("signing", "Make a signed URL to download a blob."),
    "ticket": ("signing", "Make a signed URL to upload a file."),
    "verify": ("verify", "Check a store for damage."),
    "collect": ("upkeep", "Remove leftovers and old blobs from a store."),
    "du": ("upkeep", "Show the number and size of the files in a store."),
    "manifest": ("upkeep", "List the blobs of a store for md5sum or sha256sum."),
    "migrate": ("migrate", "Name the blobs of a store by another hash algorithm, or by several."),
    "token": ("tokens", "Make, list and revoke tokens."),
}


class _Lines(logging.Handler):
    """Prints log messages for people, such as why the command waits for a server."""

    def __init__(self, silent: Callable[[], bool]) -> None:
        super().__init__(logging.WARNING)
        self._silent = silent

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message as a line."""
        if not self._silent():
            say(record.getMessage())


def _open_streams() -> None:
    """Replace standard streams that are closed, so that no other file gets their descriptors."""
    for name, flags, mode in (
        ("stdin", os.O_PATH, "r"),
        ("stdout", os.O_PATH, "w"),
        ("stderr", os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            # pylint: disable-next=consider-using-with  # stays open
            setattr(sys, name, open(os.open(os.devnull, flags), mode, encoding="utf-8"))


@contextmanager
def ending(as_json: Callable[[], bool], quiet: Callable[[], bool]) -> Iterator[None]:
    """Turn a failure of a command into a line and an exit status; raises SystemExit."""
    _open_streams()
    lines = _Lines(lambda: as_json() or quiet())
    logging.getLogger().addHandler(lines)
    try:
        yield
        sys.stdout.flush()
    except (KeyboardInterrupt, BrokenPipeError) as error:
        # sys.exit would wait for the threads that still transfer.
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
        # Python flushes once more when it exits; that must not fail again.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    sys.exit(status_of(error))


class Commands(click.Group):
    """The commands of the table, imported when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"wsgi_store.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, without importing them, and the exit statuses."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
        with formatter.section("Exit status"):
            formatter.write_dl([(str(exit_.status), exit_.meaning) for exit_ in EXITS])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with ending(lambda: bool(ctx.meta.get(JSON)), lambda: bool(ctx.meta.get(QUIET))):
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wsgi-store")
def main() -> None:
    """A content-addressed file store: run a server, move files to and from it, maintain a store.

    `wsgi-store COMMAND --help` shows the options of a command.
    """
