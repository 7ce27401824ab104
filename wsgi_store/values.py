"""Reading the values of settings, from text and from what a host application passes."""

import enum
import os
import re
from collections.abc import Callable
from fractions import Fraction
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from wsgi_store.authority import parse_origin

E = TypeVar("E", bound=enum.Enum)

KEY_LENGTH = 16
_UNITS = {"": 1, "B": 1} | {
    f"{letter}{infix}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for infix, base in (("B", 1000), ("iB", 1024))
}


def parse_size(text: str) -> int:
    """Read a number of bytes such as `512`, `100MB` or `10GiB`; raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)", text)
    if match is None or match[2] not in _UNITS:
        raise ValueError("expected a size such as 512, 100MB or 10GiB")
    # Exact: as a float, 1.001KB would be 1000 bytes.
    return int(Fraction(match[1]) * _UNITS[match[2]])


def parse_count(text: str) -> int:
    """Read a whole number; raises ValueError."""
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError("expected a whole number such as 1000")
    return int(text)


def parse_time(text: str) -> float:
    """Read a number of seconds such as `30`, `30s`, `5m`, `1h` or `7d`; raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([smhd]?)", text)
    if match is None:
        raise ValueError("expected a time such as 30s, 5m, 1h or 7d")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


SWITCHES = {"1": True, "true": True, "yes": True, "on": True} | dict.fromkeys(
    ("0", "false", "no", "off"), False
)


def flag(text: str) -> bool:
    """Read yes or no, or on or off; raises ValueError."""
    try:
        return SWITCHES[text.lower()]
    except KeyError:
        raise ValueError("expected yes or no, on or off") from None


def parse_keys(text: str) -> tuple[str, ...]:
    """Read secrets separated by commas; raises ValueError."""
    keys = tuple(text.replace(",", " ").split())
    if not keys or min(map(len, keys)) < KEY_LENGTH:
        raise ValueError(f"expected keys of at least {KEY_LENGTH} characters, separated by commas")
    return keys


def parse_names(text: str) -> tuple[str, ...]:
    """Read names separated by commas; raises ValueError."""
    return tuple(parse_text(text.replace(",", " ").strip()).split())


def several(parse: Callable[[str], E]) -> Callable[[str], tuple[E, ...]]:
    """Return a parser of values separated by commas."""
    return lambda text: tuple(map(parse, parse_names(text)))


def optional(parse: Callable[[str], Any], nothing: object = None) -> Callable[[str], Any]:
    """Return a parser that reads `none` as `nothing`."""
    return lambda text: nothing if text == "none" else parse(text)


def choice(kind: type[E]) -> Callable[[str], E]:
    """Return a parser of the values of an enumeration, in upper or lower case."""

    def parse(text: str) -> E:
        try:
            return kind(text.lower())
        except ValueError:
            raise ValueError(f"expected one of {', '.join(str(one.value) for one in kind)}") from None

    return parse


def parse_text(text: str) -> str:
    """Read a text that is not empty; raises ValueError."""
    if not text:
        raise ValueError("must not be empty")
    return text


def parse_endpoint(text: str) -> str:
    """Read the URL of a server; raises ValueError."""
    if not re.fullmatch(r"https?://[^/?#@\s]+", text):
        raise ValueError("expected http://host or https://host, optionally with a port")
    return text


def parse_url(text: str) -> str:
    """Read the URL under which a service is reached, without a slash at its end; raises ValueError."""
    match = re.fullmatch(r"(https?://[^/?#\s]+)(/[A-Za-z0-9_~%-][A-Za-z0-9._~%-]*)*/?", text)
    if match is None:
        raise ValueError("expected a URL such as https://example.org/blobs")
    parse_origin(match[1])
    return text.removesuffix("/")


def parse_location(text: str) -> str:
    """Read the path of a directory in a URL; raises ValueError."""
    if not re.fullmatch(r"/([A-Za-z0-9._~-]+/)*", text):
        raise ValueError("expected a path that begins and ends with /")
    return text


def taken(value: object, kind: Any, parse: Callable[[str], Any]) -> Any:
    """Convert a value to `kind`, also from text, a path or a list; raises ValueError."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return parse(value)
    alternatives = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    for one in alternatives:
        if get_origin(one) is tuple and value is not None:
            return _taken_list(value, get_args(one)[0], parse)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # In Python a bool is an int.
    plain = tuple(get_origin(one) or one for one in alternatives)
    if not isinstance(value, plain) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"expected {getattr(kind, '__name__', kind)}")
    return value


def _taken_list(value: object, item: type, parse: Callable[[str], Any]) -> Any:
    if isinstance(value, (list, tuple)):
        if all(isinstance(one, item) for one in value):
            return tuple(value)
        if all(isinstance(one, str) for one in value):
            return parse(",".join(value))
    raise ValueError(f"expected a list of {'strings' if item is str else f'{item.__name__}s'}")
