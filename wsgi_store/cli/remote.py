"""Commands that ask a server about its blobs: rm, stat, ls."""

import sys
from typing import TYPE_CHECKING, Any

import click

from wsgi_store.cli.options import hashes_argument, remote
from wsgi_store.cli.output import Output
from wsgi_store.cli.servers import Servers, connect, each
from wsgi_store.cli.tree import list_tree

if TYPE_CHECKING:
    from wsgi_store.client import RemoteBlob


@click.command()
@hashes_argument
@remote
def rm(hashes: tuple[str, ...], **options: Any) -> None:
    """Remove blobs, with all their hashes, from a server; prints the HASH of each removed one."""
    output = Output(["hash"])
    with Servers(**options) as servers:
        for client, name in servers.holding(hashes, output):
            with each(client, output, hash=name.hash):
                output.row(hash=name.hash, names=client.delete(name.text))
    sys.exit(output.status)


@click.command()
@hashes_argument
@remote
def stat(hashes: tuple[str, ...], **options: Any) -> None:
    """Show the size in bytes and the URL of blobs."""
    output = Output(["hash", "size", "url"])
    with Servers(**options) as servers:
        for client, name in servers.holding(hashes, output):
            with each(client, output, hash=name.hash):
                output.table([_row(client.stat(name.text))])
    sys.exit(output.status)


@click.command()
@click.option("--after", metavar="HASH", help="List only hashes greater than this one.")
@click.option("--prefix", metavar="DIGITS", default="", help="List only hashes that begin with these digits.")
@click.option("--limit", type=click.IntRange(min=0), help="List at most this many.")
@click.option("-r", "--recursive", "tree", metavar="HASH", help="List the folder of this tree instead.")
@remote
def ls(after: str | None, prefix: str, limit: int | None, tree: str | None, **options: Any) -> None:
    """List the blobs of a server, in the order of their hashes, with their sizes in bytes.

    With -r list the folder that `put -r --tree` stored as HASH: the permissions, size, hash and path
    of each file, directory and link.
    """
    if tree is not None and (after is not None or prefix or limit is not None):
        raise click.UsageError("-r lists one tree, without --after, --prefix and --limit")
    with connect(**options) as client:
        if tree is not None:
            list_tree(client, tree)
            return
        Output(["hash", "size"]).table(_row(blob) for blob in client.list(after, limit, prefix=prefix))


def _row(blob: "RemoteBlob") -> dict[str, object]:
    # dataclasses.asdict is slow enough to matter for a long listing.
    return {"hash": blob.hash, "size": blob.size, "url": blob.url, "names": blob.names}
