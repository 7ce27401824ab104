"""Commands that ask a server: rm, stat, ls, link."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click

from wsgi_store.cli.output import Output, json_option
from wsgi_store.errors import (
    ConfigError,
    Denied,
    NotFound,
    ReadOnly,
    StoreUnavailable,
    Unauthenticated,
    Unreachable,
    WSGIStoreError,
)

if TYPE_CHECKING:
    from wsgi_store.client import Client

F = TypeVar("F", bound=Callable[..., Any])

url_option = click.option(
    "--url",
    envvar="WSGI_STORE_URL",
    show_envvar=True,
    default="http://127.0.0.1:8000",
    show_default=True,
    help="The server, with the prefix it is mounted under.",
)
CONNECTION = [
    url_option,
    click.option(
        "--token",
        envvar="WSGI_STORE_TOKEN",
        show_envvar=True,
        help="The token; others see it in the list of processes, so rather use the variable or a file.",
    ),
    click.option("--token-file", type=click.Path(dir_okay=False), help="A file that holds the token."),
    click.option("--retries", default=4, show_default=True, help="How often to try again what may pass."),
    click.option("--timeout", default=60.0, show_default=True, help="Seconds a connection may stand still."),
    json_option,
]


def remote(command: F) -> F:
    """Give a command the options that `connect` takes, and --json."""
    for option in reversed(CONNECTION):
        command = option(command)
    return command


def connect(*, url: str, token: str | None, token_file: str | None, **options: Any) -> "Client":
    """The client of the server that the options name, which was asked whether it is a store.

    Raises ConfigError, OSError, and what keeps the server from answering.
    """
    from wsgi_store.client import Client  # pylint: disable=import-outside-toplevel  # slow to import

    if token_file is not None:
        token = Path(token_file).read_text(encoding="ascii", errors="replace").strip()
    client = Client(url, token or None, **options)
    _ = client.algorithm  # a server that is not there is told of once, not for each file
    return client


def concerns_all(client: "Client", error: Exception) -> bool:
    """Whether what failed for one file or blob will fail for each."""
    if isinstance(error, Denied):
        return "scope" in error.evidence  # not the token, but what a proxy thinks of one of them
    if isinstance(error, Unreachable) or (
        isinstance(error, StoreUnavailable) and "hash" not in error.evidence
    ):
        try:
            client.check()
        except WSGIStoreError:
            return True
        return False
    return isinstance(error, Unauthenticated | ReadOnly | NotFound)


@contextmanager
def each(client: "Client", output: Output, *kinds: type[Exception], **about: object) -> Iterator[None]:
    """Tell of a failure with what it is about, and go on with the next one; unless it concerns all.

    `kinds` of exceptions may be raised beside those of the client.
    """
    expected: tuple[type[Exception], ...] = (WSGIStoreError, *kinds)
    try:
        yield
    except expected as error:
        if concerns_all(client, error):
            raise
        output.failed(error, **about)


@click.command()
@click.argument("hashes", nargs=-1, required=True, metavar="HASH...")
@remote
def rm(hashes: tuple[str, ...], **options: Any) -> None:
    """Remove blobs from a server; prints the hashes of those removed."""
    output = Output(["hash"])
    with connect(**options) as client:
        for hash_ in hashes:
            with each(client, output):
                client.delete(hash_)
                output.row(hash=hash_.lower())
    sys.exit(output.status)


@click.command()
@click.argument("hashes", nargs=-1, required=True, metavar="HASH...")
@remote
def stat(hashes: tuple[str, ...], **options: Any) -> None:
    """Tell the size in bytes and the URL of blobs."""
    output = Output(["hash", "size", "url"])
    with connect(**options) as client:
        for hash_ in hashes:
            with each(client, output):
                output.table([asdict(client.stat(hash_))])
    sys.exit(output.status)


@click.command()
@click.option("--after", metavar="HASH", help="Begin behind this hash.")
@click.option("--limit", type=click.IntRange(min=0), help="List no more than so many.")
@remote
def ls(after: str | None, limit: int | None, **options: Any) -> None:
    """List the blobs of a server, in the order of their hashes, with their sizes in bytes."""
    with connect(**options) as client:
        Output(["hash", "size"]).table(asdict(blob) for blob in client.list(after, limit))


@click.command()
@click.argument("hash_", metavar="[HASH]", required=False)
@click.option("--name", help="The file name to download under; no other will do.")
@click.option("--upload", is_flag=True, help="Make a ticket for one upload, of HASH only if it is given.")
@click.option("--max-size", help="The largest upload, such as 10MiB.")
@click.option("--expires", default="1h", show_default=True, help="How long it is good: 30s, 5m, 1h.")
@click.option("--keys-file", type=click.Path(dir_okay=False), help="A file that holds the signing keys.")
@click.option("--keys", envvar="WSGI_STORE_SIGNING_KEYS", hidden=True)
@url_option
@json_option
def link(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    hash_: str | None,
    name: str | None,
    upload: bool,
    max_size: str | None,
    expires: str,
    keys_file: str | None,
    keys: str | None,
    url: str,
) -> None:
    """Print a URL that downloads the blob HASH, or with --upload one that uploads a file, without a token.

    It is signed here with the keys of the server, WSGI_STORE_SIGNING_KEYS or a file of them;
    the server is not asked.
    """
    # pylint: disable=import-outside-toplevel  # slow to import
    from wsgi_store.auth import Signer
    from wsgi_store.client import Client
    from wsgi_store.config import Config, parse_size, parse_time

    if keys_file is not None:
        keys = Path(keys_file).read_text(encoding="utf-8", errors="replace").strip()
    signing = Config.from_env({"WSGI_STORE_SIGNING_KEYS": keys or ""}).signing_keys
    if not signing:
        raise ConfigError("WSGI_STORE_SIGNING_KEYS: expected keys, not none")
    if name is not None if upload else hash_ is None or max_size is not None:
        raise click.UsageError("give a HASH, and --name if wanted; or --upload, and --max-size if wanted")
    try:
        until = time.time() + parse_time(expires)
        size = None if max_size is None else parse_size(max_size)
    except ValueError as error:
        raise ConfigError(f"--expires, --max-size: {error}") from None
    signer = Signer(list(signing))
    if hash_ is None or upload:
        target = f"?ticket={signer.ticket(until, size, hash_)}"
    else:
        behind = f"/{quote(name, safe='')}" if name else ""
        target = f"{hash_}{behind}?link={signer.link(hash_, until, name)}"
    Output(["url"]).row(url=Client(url).url(target), expires=int(until))
