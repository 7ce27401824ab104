"""The servers that commands ask: options, clients, and failures that concern one blob or all."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import click

from wsgi_store.cli.measures import measure
from wsgi_store.cli.output import Output, json_option
from wsgi_store.errors import (
    Denied,
    MalformedHash,
    NotFound,
    ReadOnly,
    StoreUnavailable,
    Unauthenticated,
    Unreachable,
    WSGIStoreError,
)
from wsgi_store.values import parse_time

if TYPE_CHECKING:
    from wsgi_store.client import Client
    from wsgi_store.client.names import Name

F = TypeVar("F", bound=Callable[..., Any])

STDIN = "-"
hashes_argument = click.argument("hashes", nargs=-1, required=True, metavar="HASH...")

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
    measure("--timeout", parse_time, "How long a connection may stand still, such as 10s.", default="60s"),
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


def listed(arguments: Iterable[str]) -> Iterator[str]:
    """What is named; by - on standard input, a line each, as `put`, `ls` and `link` print them."""
    for argument in arguments:
        if argument == STDIN:
            yield from filter(None, map(_first, sys.stdin))
        else:
            yield argument


def _first(line: str) -> str:
    """What a line names: by its first field, or as JSON."""
    if line.startswith("{"):
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(line)["hash"])
    return next(iter(line.split()), "")


class Servers:
    """Clients of the servers that blobs are on: that of the options, and others by URLs of blobs.

    None of the others is told the token, which is for the one.
    """

    def __init__(self, *, url: str, token: str | None, token_file: str | None, **options: Any) -> None:
        self._clients: dict[str, "Client"] = {}
        self._stack = ExitStack()
        self._own: dict[str, Any] = {"url": url, "token": token, "token_file": token_file}
        self._options = options

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def holding(self, names: Iterable[str], output: Output) -> "Iterator[tuple[Client, Name]]":
        """The blobs that are named, each with a client of its server; tells which are malformed."""
        # pylint: disable=import-outside-toplevel  # slow to import
        from wsgi_store.client.address import base, parse
        from wsgi_store.client.names import parse_name

        own = base(parse(self._own["url"]))
        for text in listed(names):
            try:
                name = parse_name(text)
            except MalformedHash as error:
                output.failed(error)
                continue
            place = own if name.server is None else base(parse(name.server))
            if place not in self._clients:
                how = self._own if place == own else {"url": name.server, "token": None, "token_file": None}
                self._clients[place] = self._stack.enter_context(connect(**how, **self._options))
            yield self._clients[place], name
