"""Conditions and ranges of a request (RFC 9110 sections 13 and 14), decided for one blob."""

import re
from typing import TYPE_CHECKING, NamedTuple

from werkzeug.http import parse_date
from werkzeug.wrappers import Request

from wsgi_store.errors import PreconditionFailed, RangeNotSatisfiable
from wsgi_store.store.contract import Blob

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

FIELDS = frozenset(
    {
        "HTTP_IF_MATCH",
        "HTTP_IF_NONE_MATCH",
        "HTTP_IF_MODIFIED_SINCE",
        "HTTP_IF_UNMODIFIED_SINCE",
        "HTTP_RANGE",
    }
)
# More parts than this after coalescing cost more than they save, and are how a request of
# a few bytes asks for gigabytes (RFC 9110 section 17.15): the whole blob is sent instead.
MAX_RANGES = 32
# More than this are not even coalesced.
MAX_ITEMS = 1000
# Two ranges nearer than the header of a part are cheaper as one (RFC 9110 section 15.3.7.2).
GAP = 128

# The last second that a date field can tell (RFC 9110 section 5.6.7).
LATEST = 253402300799

_RANGE = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)")


class Range(NamedTuple):
    """Bytes from `start` up to and without `stop`."""

    start: int
    stop: int

    def content_range(self, size: int) -> str:
        """The value of Content-Range (RFC 9110 section 14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def last_modified(blob: Blob) -> int:
    """When a blob was last added, in seconds since the epoch, as near as a date field can tell it."""
    # A file on a disk may have any time at all.
    return min(max(int(blob.modified), 0), LATEST)


def not_modified(environ: "WSGIEnvironment", blob: Blob) -> bool:
    """Evaluate the preconditions in the order of RFC 9110 section 13.2.2.

    True where a GET is answered 304. Raises PreconditionFailed.
    """
    etag = blob.digest.hex
    modified = last_modified(blob)
    reading = environ["REQUEST_METHOD"] in ("GET", "HEAD")
    if "HTTP_IF_MATCH" in environ:
        if not Request(environ).if_match.contains(etag):
            raise PreconditionFailed("If-Match does not name this blob")
    elif (since := _date(environ, "HTTP_IF_UNMODIFIED_SINCE")) is not None and modified > since:
        raise PreconditionFailed("the blob is newer than If-Unmodified-Since")
    if "HTTP_IF_NONE_MATCH" in environ:
        if not Request(environ).if_none_match.contains_weak(etag):
            return False
        if reading:
            return True
        raise PreconditionFailed("If-None-Match names this blob")
    since = _date(environ, "HTTP_IF_MODIFIED_SINCE")
    return reading and since is not None and modified <= since


def ranges(environ: "WSGIEnvironment", blob: Blob) -> list[Range] | None:
    """The ranges a GET asks for, apart and in the order of the request; None for the whole blob.

    What is malformed or of another unit is ignored, as RFC 9110 section 14.2 has it.
    Raises RangeNotSatisfiable when none of them overlaps the blob.
    """
    wanted = _parse(environ.get("HTTP_RANGE", ""), blob.size)
    if wanted is None or not _if_range(environ, blob):
        return None
    if not wanted:
        raise RangeNotSatisfiable(size=blob.size)
    merged: list[Range] = []
    for one in sorted(wanted):
        if merged and one.start <= merged[-1].stop + GAP:
            merged[-1] = Range(merged[-1].start, max(merged[-1].stop, one.stop))
        else:
            merged.append(one)
    if len(merged) > MAX_RANGES:
        return None
    # As asked for (RFC 9110 section 15.3.7.2): a reader may want the index at the end first.
    return sorted(
        merged, key=lambda one: next(i for i, part in enumerate(wanted) if part.start in range(*one))
    )


def _parse(value: str, size: int) -> list[Range] | None:
    """The satisfiable ranges of a Range field; None when it is to be ignored."""
    unit, _, text = value.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    if text.count(",") > MAX_ITEMS:
        return None
    found = []
    seen = False
    for item in text.split(","):
        item = item.strip(" \t")
        if not item:
            continue  # RFC 9110 section 5.6.1.2: empty list elements are ignored
        match = _RANGE.fullmatch(item)
        if match is None:
            return None
        seen = True
        try:
            first, last, suffix = (int(digits) if digits else None for digits in match.groups())
        except ValueError:
            return None  # more digits than Python converts
        if first is None:
            start, stop = max(0, size - (suffix or 0)), size
            if suffix and not size:
                return None  # satisfied by the empty whole, which no Content-Range can name
        else:
            if last is not None and last < first:
                return None
            start, stop = first, size if last is None else min(last + 1, size)
        if start < stop:
            found.append(Range(start, stop))
    return found if seen else None


def _if_range(environ: "WSGIEnvironment", blob: Blob) -> bool:
    """Whether If-Range lets the Range field count (RFC 9110 section 13.1.5)."""
    value = environ.get("HTTP_IF_RANGE")
    if value is None:
        return True
    date = _date(environ, "HTTP_IF_RANGE")
    return value == f'"{blob.digest.hex}"' if date is None else date == last_modified(blob)


def _date(environ: "WSGIEnvironment", name: str) -> int | None:
    """A date field in seconds since the epoch; None when absent or malformed."""
    try:
        date = parse_date(environ.get(name))
    except OverflowError:
        return None  # a number in it is more than the machine's integers hold
    return None if date is None else int(date.timestamp())
