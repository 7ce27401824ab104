"""The marker: a small file that names the algorithm and the layout of a store."""

import json
import re
from collections.abc import Iterable

from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError, WrongStore

NAME = "store.json"
LAYOUT = "ab/abcdef"


def text(algorithm: Algorithm) -> bytes:
    """Return the marker of a store of this algorithm."""
    return f"{json.dumps({'algorithm': algorithm.value, 'layout': LAYOUT})}\n".encode()


def read(content: bytes, place: str) -> Algorithm:
    """Return the algorithm that a marker names; raises WrongStore if it is not a valid marker."""
    try:
        marker = json.loads(content)
        held, layout = Algorithm(marker["algorithm"]), marker["layout"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise WrongStore(f"{place}/{NAME} is not a valid store marker") from None
    if layout != LAYOUT:
        raise WrongStore(f"{place} has the layout {layout!r}, which this version cannot read")
    try:
        held.new()
    except ConfigError as error:
        raise WrongStore(f"{place}: {error}") from error
    return held


def require(content: bytes, place: str, algorithm: Algorithm) -> None:
    """Raise WrongStore unless this is the marker of a store of `algorithm`."""
    held = read(content, place)
    if held is not algorithm:
        raise WrongStore(
            f"{place} holds {held.value} digests, not {algorithm.value}: "
            f"set WSGI_STORE_HASH={held.value}, or WSGI_STORE_ROOT to another place"
        )


def check_unmarked(place: str, names: Iterable[str], algorithm: Algorithm) -> None:
    """Raise WrongStore if `names` include blobs of another algorithm, whose marker is missing."""
    blob = re.compile("([0-9a-f]{2})/\\1[0-9a-f]{30,}")
    for name in filter(blob.fullmatch, names):
        if len(name) != 2 * algorithm.size + 3:
            raise WrongStore(
                f"{place} has no {NAME} and holds {name}, "
                f"which is not a {algorithm.value} digest: set WSGI_STORE_HASH "
                "to the algorithm of its files, or WSGI_STORE_ROOT to another place"
            )
