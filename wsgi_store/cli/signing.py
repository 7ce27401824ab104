"""Commands that sign URLs with the keys of a server, without asking it: link, ticket."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click

from wsgi_store.cli.options import json_option, measure, url_option
from wsgi_store.cli.output import Output
from wsgi_store.config import Config
from wsgi_store.errors import ConfigError
from wsgi_store.values import parse_size, parse_time

if TYPE_CHECKING:
    from wsgi_store.access.signing import Signer

F = TypeVar("F", bound=Callable[..., Any])

SIGNING = [
    measure("--expires", parse_time, "How long the URL is valid, such as 30s, 5m, 1h or 7d.", default="1h"),
    click.option("--keys-file", type=click.Path(dir_okay=False), help="A file that holds the signing keys."),
    click.option("--keys", envvar="WSGI_STORE_SIGNING_KEYS", hidden=True),
    url_option,
    json_option,
]


def signed(command: F) -> F:
    """Give a command the options that `_print_signed` takes, and --json."""
    for option in reversed(SIGNING):
        command = option(command)
    return command


@click.command()
@click.argument("hash_", metavar="HASH")
@click.option("--name", help="The file name to download under; the URL is valid for no other.")
@signed
def link(hash_: str, name: str | None, **options: Any) -> None:
    """Print a URL that downloads a blob without a token until it expires.

    It is signed here with the server's keys, WSGI_STORE_SIGNING_KEYS or a file of them. The server
    is not asked, so the blob may be missing.
    """
    from wsgi_store.client.names import checked  # pylint: disable=import-outside-toplevel  # slow to import

    hash_ = checked(hash_)

    def target(signer: "Signer", until: float) -> str:
        behind = f"/{quote(name, safe='')}" if name else ""
        return f"{hash_}{behind}?link={signer.link(hash_, until, name)}"

    _print_signed(target, **options)


@click.command()
@click.argument("hash_", metavar="[HASH]", required=False)
@measure("--max-size", parse_size, "The largest file to accept, such as 10MiB.")
@signed
def ticket(hash_: str | None, max_size: int | None, **options: Any) -> None:
    """Print a URL that uploads one file without a token until it expires.

    With HASH it uploads only the file with that hash. It is signed here with the server's keys,
    WSGI_STORE_SIGNING_KEYS or a file of them.
    """
    from wsgi_store.client.names import checked  # pylint: disable=import-outside-toplevel  # slow to import

    only = None if hash_ is None else checked(hash_)
    _print_signed(lambda signer, until: f"?ticket={signer.ticket(until, max_size, only)}", **options)


def _print_signed(
    target: "Callable[[Signer, float], str]",
    *,
    expires: float,
    keys_file: str | None,
    keys: str | None,
    url: str,
) -> None:
    # pylint: disable=import-outside-toplevel  # slow to import
    from wsgi_store.access.signing import Signer
    from wsgi_store.client import Client

    if keys_file is not None:
        keys = Path(keys_file).read_text(encoding="utf-8", errors="replace").strip()
    signing = Config.from_env({"WSGI_STORE_SIGNING_KEYS": keys or ""}).signing_keys
    if not signing:
        raise ConfigError("WSGI_STORE_SIGNING_KEYS: expected keys, not none")
    until = time.time() + expires
    Output(["url"]).row(url=Client(url).url(target(Signer(list(signing)), until)), expires=int(until))
