"""Commands that ask a server: rm, stat, ls, link."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from wsgi_store.cli.measures import measure
from wsgi_store.cli.output import Output, json_option
from wsgi_store.cli.servers import Servers, connect, each, hashes_argument, remote, url_option
from wsgi_store.config import Config
from wsgi_store.errors import ConfigError
from wsgi_store.values import parse_size, parse_time


@click.command()
@hashes_argument
@remote
def rm(hashes: tuple[str, ...], **options: Any) -> None:
    """Remove blobs from a server; prints the hashes of those removed."""
    output = Output(["hash"])
    with Servers(**options) as servers:
        for client, name in servers.holding(hashes, output):
            with each(client, output, hash=name.hash):
                client.delete(name.text)
                output.row(hash=name.hash)
    sys.exit(output.status)


@click.command()
@hashes_argument
@remote
def stat(hashes: tuple[str, ...], **options: Any) -> None:
    """Tell the size in bytes and the URL of blobs."""
    output = Output(["hash", "size", "url"])
    with Servers(**options) as servers:
        for client, name in servers.holding(hashes, output):
            with each(client, output, hash=name.hash):
                output.table([asdict(client.stat(name.text))])
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
@measure("--max-size", parse_size, "The largest upload, such as 10MiB.")
@measure("--expires", parse_time, "How long it is good, such as 30s, 5m, 1h or 7d.", default="1h")
@click.option("--keys-file", type=click.Path(dir_okay=False), help="A file that holds the signing keys.")
@click.option("--keys", envvar="WSGI_STORE_SIGNING_KEYS", hidden=True)
@url_option
@json_option
def link(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    hash_: str | None,
    name: str | None,
    upload: bool,
    max_size: int | None,
    expires: float,
    keys_file: str | None,
    keys: str | None,
    url: str,
) -> None:
    """Print a URL that downloads the blob HASH, or with --upload one that uploads a file, without a token.

    It is signed here with the keys of the server, WSGI_STORE_SIGNING_KEYS or a file of them;
    the server is not asked.
    """
    # pylint: disable=import-outside-toplevel  # slow to import
    from wsgi_store.access.signing import Signer
    from wsgi_store.client import Client
    from wsgi_store.client.names import checked

    if keys_file is not None:
        keys = Path(keys_file).read_text(encoding="utf-8", errors="replace").strip()
    signing = Config.from_env({"WSGI_STORE_SIGNING_KEYS": keys or ""}).signing_keys
    if not signing:
        raise ConfigError("WSGI_STORE_SIGNING_KEYS: expected keys, not none")
    if name is not None if upload else hash_ is None or max_size is not None:
        raise click.UsageError("give a HASH, and --name if wanted; or --upload, and --max-size if wanted")
    if hash_ is not None:
        hash_ = checked(hash_)
    until = time.time() + expires
    signer = Signer(list(signing))
    if hash_ is None or upload:
        target = f"?ticket={signer.ticket(until, max_size, hash_)}"
    else:
        behind = f"/{quote(name, safe='')}" if name else ""
        target = f"{hash_}{behind}?link={signer.link(hash_, until, name)}"
    Output(["url"]).row(url=Client(url).url(target), expires=int(until))
