"""Conditional requests and range requests (RFC 9110 sections 13 and 14)."""

import re
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from werkzeug.http import parse_date
from werkzeug.wrappers import Request

from wsgi_store.digest import Digest
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
# The fields with entity tags, and whether their weak ones count (RFC 9110 section 8.8.3.2).
TAGS = {"HTTP_IF_MATCH": False, "HTTP_IF_NONE_MATCH": True, "HTTP_IF_RANGE": False}
# If more ranges are left after coalescing, the whole blob is sent: many ranges cost more than they save, and
# let a small request ask for gigabytes (RFC 9110 section 17.15).
MAX_RANGES = 32
# More commas than this in a Range field make it ignored, before it is parsed.
MAX_ITEMS = 1000
# Bytes of a gap that costs less than the header of another part (RFC 9110 section 15.3.7.2).
GAP = 128

# The last second that a date field can express (RFC 9110 section 5.6.7).
LATEST = 253402300799

Others = Mapping[str, tuple[Digest, ...]]
"""Entity tags that are hashes of blobs, each with the names of its blob."""
NO_OTHERS: Others = MappingProxyType({})

_HASH = re.compile("[0-9a-f]{32,128}")
_RANGE = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)")


class Range(NamedTuple):
    """The bytes from `start` to `stop`, which is excluded."""

    start: int
    stop: int

    def content_range(self, size: int) -> str:
        """The value of Content-Range (RFC 9110 section 14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def last_modified(blob: Blob) -> int:
    """Return when the blob was last added, in seconds since the epoch, within the range of date fields."""
    # A file can have any time, even before 1970 or after 9999.
    return min(max(int(blob.modified), 0), LATEST)


def unknown_tags(environ: "WSGIEnvironment", names: Collection[Digest]) -> Iterator[str]:
    """Yield the entity tags that may be further names of the blob with these `names`.

    A field that contains one of these names is left out, and so are hashes of the same algorithms.
    """
    known = {name.hex for name in names}
    lengths = set(map(len, known))
    for field, weak in TAGS.items():
        value = environ.get(field)
        if value is None or value[1:-1] in known:
            continue  # most fields have one tag, and need no parsing
        # All fields have the form of this one.
        tags = Request({"HTTP_IF_NONE_MATCH": value}).if_none_match
        listed = tags.as_set(include_weak=weak)
        if not tags.star_tag and known.isdisjoint(listed):
            # For an empty tag Werkzeug returns None.
            yield from sorted(
                tag for tag in listed if tag and _HASH.fullmatch(tag) and len(tag) not in lengths
            )


def _hashes(blob: Blob, others: Others) -> set[str]:
    """Return the hashes by which a condition names the blob."""
    known = set(blob.names)
    named = {tag for tag, names in others.items() if not known.isdisjoint(names)}
    return named.union(name.hex for name in known)


def not_modified(environ: "WSGIEnvironment", blob: Blob, others: Others = NO_OTHERS) -> bool:
    """Return whether to answer 304; raises PreconditionFailed.

    The preconditions are evaluated in the order of RFC 9110 section 13.2.2. Entity tags may be any names of
    the blob; `others` tells what those stand for that the blob does not tell itself.
    """
    hashes = _hashes(blob, others)
    modified = last_modified(blob)
    reading = environ["REQUEST_METHOD"] in ("GET", "HEAD")
    if "HTTP_IF_MATCH" in environ:
        if not any(map(Request(environ).if_match.contains, hashes)):
            raise PreconditionFailed("If-Match does not name this blob")
    elif (since := _date(environ, "HTTP_IF_UNMODIFIED_SINCE")) is not None and modified > since:
        raise PreconditionFailed("the blob is newer than If-Unmodified-Since")
    if "HTTP_IF_NONE_MATCH" in environ:
        if not any(map(Request(environ).if_none_match.contains_weak, hashes)):
            return False
        if reading:
            return True
        raise PreconditionFailed("If-None-Match names this blob")
    since = _date(environ, "HTTP_IF_MODIFIED_SINCE")
    return reading and since is not None and modified <= since


def require(environ: "WSGIEnvironment", blob: Blob | None, others: Others = NO_OTHERS) -> None:
    """Raise PreconditionFailed unless a PUT to this blob may go on; None stands for an absent blob.

    An absent blob has no date, so If-Unmodified-Since is ignored (RFC 9110 section 13.1.4).
    """
    if blob is not None:
        not_modified(environ, blob, others)
    elif "HTTP_IF_MATCH" in environ:
        raise PreconditionFailed("If-Match names a blob that is not there")


def require_absent(environ: "WSGIEnvironment", names: Collection[Digest]) -> None:
    """Raise PreconditionFailed if If-None-Match names the blob with these names, which is there."""
    if "HTTP_IF_NONE_MATCH" in environ:
        if any(Request(environ).if_none_match.contains_weak(name.hex) for name in names):
            raise PreconditionFailed("If-None-Match names this blob")


def ranges(environ: "WSGIEnvironment", blob: Blob, others: Others = NO_OTHERS) -> list[Range] | None:
    """Return the ranges to send, coalesced and in the order of the request; None for the whole blob.

    A malformed field or another unit is ignored (RFC 9110 section 14.2). Raises RangeNotSatisfiable if no
    range overlaps the blob.
    """
    wanted = _parse(environ.get("HTTP_RANGE", ""), blob.size)
    if wanted is None or not _if_range(environ, blob, others):
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
    # In the order of the request (RFC 9110 section 15.3.7.2): a reader may want the index at the end first.
    return sorted(
        merged, key=lambda one: next(i for i, part in enumerate(wanted) if part.start in range(*one))
    )


def _parse(value: str, size: int) -> list[Range] | None:
    """Return the satisfiable ranges of a Range field; None to ignore the field."""
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
                return None  # satisfiable, but Content-Range cannot express an empty range
        else:
            if last is not None and last < first:
                return None
            start, stop = first, size if last is None else min(last + 1, size)
        if start < stop:
            found.append(Range(start, stop))
    return found if seen else None


def _if_range(environ: "WSGIEnvironment", blob: Blob, others: Others) -> bool:
    """Whether If-Range permits sending a range (RFC 9110 section 13.1.5)."""
    value = environ.get("HTTP_IF_RANGE")
    if value is None:
        return True
    date = _date(environ, "HTTP_IF_RANGE")
    if date is not None:
        return date == last_modified(blob)
    return value[:1] == value[-1:] == '"' and value[1:-1] in _hashes(blob, others)


def _date(environ: "WSGIEnvironment", name: str) -> int | None:
    """Return a date field in seconds since the epoch; None if it is absent or malformed."""
    try:
        date = parse_date(environ.get(name))
    except OverflowError:
        return None  # a number in it exceeds a C integer
    return None if date is None else int(date.timestamp())
