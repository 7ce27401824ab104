"""Header fields of responses as gunicorn checks them, each checked once."""

from functools import lru_cache
from typing import NamedTuple

from gunicorn.http import wsgi
from gunicorn.util import is_hoppish

# Characters of the longest value that is cached.
LONGEST_CACHED = 512


class Field(NamedTuple):
    """A header field as gunicorn sends it."""

    kept: list[tuple[str, str]]
    """The field, or nothing if gunicorn drops it."""
    length: int | None
    """The value of Content-Length."""
    upgrade: bool
    """Whether it asks for another protocol."""
    text: str
    """The line in the head of a response."""


def _checked(name: str, value: str) -> Field:
    if _is_plain(name) and wsgi.HEADER_VALUE_RE.fullmatch(value):
        value = value.strip(" \t")
        return Field([(name, value)], None, False, f"{name}: {value}\r\n")
    # A response with nothing but what process_headers needs, for all of gunicorn's checks.
    response = wsgi.Response.__new__(wsgi.Response)
    response.headers, response.response_length, response.upgrade = [], None, False
    response.process_headers([(name, value)])
    text = "".join(f"{name}: {value}\r\n" for name, value in response.headers)
    return Field(response.headers, response.response_length, response.upgrade, text)


# Most fields repeat from response to response.
_remembered = lru_cache(1024)(_checked)


def checked_field(name: str, value: str) -> Field:
    """Return the field as gunicorn sends it; raises the error with which gunicorn rejects it."""
    # Long values come from requests, which must not fill the memory.
    return (_remembered if len(value) <= LONGEST_CACHED else _checked)(name, value)


@lru_cache(256)
def _is_plain(name: str) -> bool:
    """Whether a field with this name has no effect on the connection or the framing."""
    return bool(wsgi.TOKEN_RE.fullmatch(name) and name.lower() != "content-length" and not is_hoppish(name))
