"""Changes by others between two requests of a process to a bucket."""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, TypeAlias
from urllib.parse import unquote

import obstore

from tests.support.engines import Answer, Between, Request
from tests.support.kinds import digest_of
from tests.support.stops import MD5, MIGRATING, NAMED, SHA1, SHA256, Server, primary
from wsgi_store.digest import Digest
from wsgi_store.store.marker import Marker

Act: TypeAlias = Callable[[], Any]
Acts: TypeAlias = Mapping[tuple[str, int], Act]
DATA = b"some bytes"
NAME = digest_of(MD5, DATA)
PRIMARY = primary(DATA)
ALGORITHMS = (SHA256, MD5, SHA1)
# The answer of AWS to a condition on an object that is not there; Ceph says 412.
NO_SUCH_KEY = (404, b"<Error><Code>NoSuchKey</Code></Error>")


def key(digest: Digest) -> str:
    """The key of a blob."""
    return f"{digest.hex[:2]}/{digest.hex}"


def name_key(name: Digest) -> str:
    """The key of a further name."""
    return f".names/{name.algorithm.value}/{name.hex}"


def before(proxy: Between, place: str, acts: Acts) -> set[tuple[str, int]]:
    """Do things before the proxy forwards requests for a key, by method and number; returns what is left.

    The proxy answers with what one of them returns.
    """
    left = set(acts)
    came = {method: count(1) for method in ("GET", "HEAD", "PUT", "POST", "DELETE")}

    def answer(request: Request) -> Answer:
        if unquote(request.path).partition("?")[0].endswith(place):
            step = request.method, next(came[request.method])
            if step in acts:
                left.discard(step)
                done = acts[step]()
                return done if isinstance(done, tuple) else None
        return None

    proxy.answer = answer
    return left


def always(proxy: Between, place: str, acts: Mapping[str, Act]) -> None:
    """Do things before the proxy forwards any request for a key, by method."""

    def answer(request: Request) -> None:
        if request.to(place) and request.method in acts:
            acts[request.method]()

    proxy.answer = answer


def there(server: Server, data: bytes = DATA) -> list[bool]:
    """Whether the blob is there, by each of its names."""
    return [server.holds(algorithm, data) for algorithm in ALGORITHMS]


def joined(server: Server) -> None:
    """Leave a blob under both its names, each put there by an upload that knows nothing of the other."""
    server.make(NAMED)
    server.upload(DATA)
    server.make(Marker(MD5))
    server.upload(DATA)
    server.make(MIGRATING)


def drop(server: Server, digest: Digest) -> None:
    """Remove the object under a key, as a process does that has taken over the lock."""
    obstore.delete(server.client, key(digest))
