"""The servers that commands talk to, and failures that concern one blob or all of them."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from wsgi_store.cli.output import Output
from wsgi_store.errors import (
    ConfigError,
    Denied,
    MalformedHash,
    NotFound,
    ReadOnly,
    StoreUnavailable,
    Unauthenticated,
    Unreachable,
    WSGIStoreError,
)

if TYPE_CHECKING:
    from wsgi_store.client import Client
    from wsgi_store.client.names import Name

STDIN = "-"


def connect(*, url: str, token: str | None, token_file: str | None, **options: Any) -> "Client":
    """Return a client of the server that the options name, once that has answered.

    Raises ConfigError, OSError, and why the server does not answer.
    """
    from wsgi_store.client import Client  # pylint: disable=import-outside-toplevel  # slow to import

    if token_file is not None:
        token = Path(token_file).read_text(encoding="ascii", errors="replace").strip()
    client = Client(url, token or None, **options)
    _ = client.algorithm  # reports a server that is down once, and not for each file
    return client


def concerns_all(client: "Client", error: Exception) -> bool:
    """Whether a failure of one blob will hit every blob."""
    if isinstance(error, Denied):
        return "scope" in error.evidence  # without a scope it may be a proxy that blocks one of them
    if isinstance(error, Unreachable) or (
        isinstance(error, StoreUnavailable) and "hash" not in error.evidence
    ):
        try:
            client.check()
        except WSGIStoreError:
            return True
        return False
    return isinstance(error, Unauthenticated | ReadOnly | NotFound | ConfigError)


@contextmanager
def each(client: "Client", output: Output, *kinds: type[Exception], **about: object) -> Iterator[None]:
    """Report a failure of one blob and suppress it, unless it will hit every blob.

    `kinds` are the exceptions to expect beside those of the client.
    """
    expected: tuple[type[Exception], ...] = (WSGIStoreError, *kinds)
    try:
        yield
    except expected as error:
        if concerns_all(client, error):
            raise
        output.failed(error, **about)


def listed(arguments: Iterable[str]) -> Iterator[str]:
    """Yield the arguments; for - the lines of standard input, as `put`, `ls` and `link` print them."""
    for argument in arguments:
        if argument == STDIN:
            yield from filter(None, map(_first, sys.stdin))
        else:
            yield argument


def _first(line: str) -> str:
    """The name in a line: its first field, or `hash` of a JSON object."""
    if line.startswith("{"):
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(line)["hash"])
    return next(iter(line.split()), "")


class Servers:
    """Clients of the server that the options name, and of other servers that URLs of blobs name.

    Only the server of the options gets the token.
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
        """Yield each blob with a client of its server; reports malformed names."""
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
