"""Commands that edit the file of tokens: token add, list, revoke."""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from wsgi_store.access.grant import SCOPES
from wsgi_store.access.token_file import EXPECTED, NOSTR, Entry, comment_of, entries, is_key, is_name, name_of
from wsgi_store.cli.options import json_option
from wsgi_store.cli.output import Output
from wsgi_store.cli.owner import become_owner
from wsgi_store.errors import ConfigError

file_option = click.option(
    "--file",
    "path",
    envvar="WSGI_STORE_TOKENS",
    show_envvar=True,
    required=True,
    type=click.Path(dir_okay=False),
    help="The file of tokens.",
)


@click.group()
def token() -> None:
    """Make, list and revoke the tokens of a server.

    A running server reads a changed file before the next request.
    """


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(sorted(SCOPES)),
    help="What the token allows; may be repeated.",
)
@click.option("--replace", is_flag=True, help="Replace the token of this name.")
@click.option("--nostr", "key", metavar="KEY", help="Accept this public key of Nostr, in hex, instead.")
@file_option
@json_option
def add(name: str, scopes: tuple[str, ...], replace: bool, key: str | None, path: str) -> None:
    """Make a token and print it, this once: the file holds only its SHA-256.

    With --nostr no token is made, and the key is printed.
    """
    if not is_name(name):
        raise ConfigError("expected a name of one word, without #")
    made = None
    if key is None:
        made = secrets.token_hex(32)
        credential = hashlib.sha256(made.encode()).hexdigest()
    elif is_key(key):
        credential = f"{NOSTR}{key.lower()}"
    else:
        raise ConfigError("--nostr: expected a public key of 64 hex digits, not one that begins with npub")
    entry = Entry(name, frozenset(scopes), credential).line()
    with _edited(path, right=True) as lines:
        places = [number for number, line in enumerate(lines) if name_of(line) == name]
        if places and not replace:
            raise ConfigError(f"{path} already has a token {name}: use --replace, or revoke it")
        if places:
            comment = comment_of(lines[places[0]])
            lines[places[0]] = f"{entry}{' ' if comment else ''}{comment}\n"
            for number in reversed(places[1:]):
                del lines[number]
        else:
            if lines and not lines[-1].endswith("\n"):
                lines[-1] += "\n"
            lines.append(f"{entry}\n")
    told = {"nostr": key.lower()} if key is not None else {"token": made}
    Output([*told]).row(**told, name=name, scopes=sorted(set(scopes)))


@token.command(name="list")
@file_option
@json_option
def list_(path: str) -> None:
    """List the names and scopes of the tokens and keys."""
    output = Output(["name", "scopes"])
    path = _owned(path)
    for entry in _valid_entries(path):
        key = {} if entry.key is None else {"nostr": entry.key}
        output.row(name=entry.name, scopes=sorted(entry.scopes), **key)


@token.command()
@click.argument("name")
@file_option
@json_option
def revoke(name: str, path: str) -> None:
    """Remove a token from the file."""
    with _edited(path) as lines:
        left = [line for line in lines if name_of(line) != name]
        if left == lines:
            raise ConfigError(f"{path} has no token {name}")
        lines[:] = left
    Output(["name"]).row(name=name)


@contextmanager
def _edited(path: str, *, right: bool = False) -> Iterator[list[str]]:
    """Give the lines of the file to change, and replace the file atomically afterwards.

    With `right`, raises ConfigError if a line of the file is wrong.
    """
    path = _owned(path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Two commands at once would undo each other's change.
        fcntl.flock(directory, fcntl.LOCK_EX)
        there = os.path.exists(path)
        if there and right:
            _valid_entries(path)
        lines = _lines(path) if there else []
        yield lines
        if not lines:
            lines.append("# no tokens\n")  # servers take an empty file for one that is still being written
        draft = f"{path}.{secrets.token_hex(8)}"
        fd = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                if there:
                    _keep(fd, os.stat(path), path)
                file.writelines(lines)
                file.flush()
                os.fsync(fd)
            os.rename(draft, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(draft)
            raise
        os.fsync(directory)
    finally:
        os.close(directory)


def _owned(path: str) -> str:
    """Return the real path of the file; root becomes the owner of its directory."""
    become_owner(os.path.dirname(os.path.abspath(path)))
    path = os.path.realpath(path)
    become_owner(os.path.dirname(path))
    return path


def _keep(fd: int, before: os.stat_result, path: str) -> None:
    """Give the new file the owner and mode of the old one, so that the server can still read it."""
    now = os.fstat(fd)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        try:
            os.fchown(fd, before.st_uid, before.st_gid)
        except OSError as error:
            raise ConfigError(f"{path} cannot keep its owner and group: {error.strerror}") from None
    if now.st_mode != before.st_mode:
        os.fchmod(fd, before.st_mode & 0o7777)


def _valid_entries(path: str) -> list[Entry]:
    try:
        found, malformed = entries(_lines(path))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if malformed:
        raise ConfigError(f"{path}, line {malformed[0]}: {EXPECTED}")
    return found


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return file.readlines()
