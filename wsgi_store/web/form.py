"""The files in a form (multipart/form-data, RFC 7578)."""

import re
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

# pylint: disable-next=no-name-in-module  # python-multipart, which others use, has a package of this name
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser
from werkzeug.http import parse_options_header

from wsgi_store.digest import Chunk, Digest
from wsgi_store.errors import BadRequest, TooLarge
from wsgi_store.mapped import mapped
from wsgi_store.web.digest_fields import parse_field

# Bytes of a form beside its files: boundaries, part headers and ordinary fields.
FORM_OVERHEAD = 4 << 20
FORM_PARTS = 1000
FORM_HEADER = 16 << 10
# Bytes of files that nobody wants, such as those too large, which are read to get at the files behind them.
FORM_DROPPED = 1 << 30
LIMITS = {ParserLimitReached: BadRequest}
TOO_MUCH = f"malformed form: more than {FORM_PARTS} parts, or a part header of more than {FORM_HEADER} bytes"
BOUNDARY = re.compile("[ -~]{1,70}")  # clients use more characters than RFC 2046 section 5.1.1 permits


class Part(NamedTuple):
    """A file in a form."""

    name: str | None
    """Its file name."""
    field: str
    """The name of the field that it is in."""
    digests: tuple[Digest, ...]
    """The digests in the header of the part."""
    chunks: Iterator[bytes]
    """Its bytes, which can be read until the next part is taken."""


class Form:
    """A multipart/form-data body (RFC 7578).

    `length` is the announced one, and `max_size` the limit for the whole body, in bytes. Raises BadRequest
    for a malformed boundary, and TooLarge.
    """

    def __init__(
        self,
        chunks: Iterator[Chunk],
        boundary: str,
        length: int | None = None,
        max_size: int | None = None,
    ) -> None:
        self._chunks = chunks
        self._max_size = max_size
        self._limit(length or 0)
        if not BOUNDARY.fullmatch(boundary):
            raise BadRequest("malformed form: the boundary must have 1 to 70 printable ASCII characters")
        # File names come in any encoding: latin-1 decodes every byte, and `_file_name` encodes it again.
        self._parser = PushMultipartParser(
            boundary, max_header_size=FORM_HEADER, max_segment_count=FORM_PARTS, header_charset="latin1"
        )
        self._beside = 0
        self._in_file = False

    def files(self) -> Iterator[Part]:
        """Yield the files, in their order; taking one drops the bytes of the one before that are left.

        Raises BadRequest, also while a file is read, TooLarge if very much is dropped, and what the chunks
        of the body raise.
        """
        events = self._events()
        dropped = 0
        for event in events:
            if not isinstance(event, MultipartSegment):
                if event and self._in_file:
                    dropped += len(event)
                    if dropped > FORM_DROPPED:
                        raise TooLarge("too many bytes of files that are too large", limit=FORM_DROPPED)
                continue
            name = _file_name(event)
            self._in_file = name is not None
            if name is None:
                if (event.content_type or "").startswith("multipart/"):
                    # `curl -F f=@a,b` does this; to leave them out would lose files.
                    raise BadRequest("send each file in a part of its own (RFC 7578 section 4.3)")
                continue
            content = _until_end(events)
            if not name:
                # A part without a name is a file only if it has bytes: a browser sends an empty part
                # with an empty name if no file was chosen.
                first = next(content, None)
                if first is None:
                    continue
                content = chain((first,), content)
            yield Part(name or None, _decoded(event.name or ""), _digests(event), content)

    def file(self) -> Part:
        """Return the only file, whose bytes end with those of the body; raises BadRequest.

        Reading its bytes to the end raises BadRequest if another file follows.
        """
        files = self.files()
        part = next(files, None)
        if part is None:
            raise BadRequest("a form must have at least one file", files=0)
        return part._replace(chunks=_alone(part.chunks, files))

    def _events(self) -> Iterator[MultipartSegment | bytes | None]:
        """Yield the parts, the bytes of each, and None at its end; raises BadRequest."""
        size = 0
        for chunk in self._chunks:
            size += len(chunk)
            self._limit(size)
            self._beside += len(chunk)
            for event in self._parse(chunk):
                if event and self._in_file and isinstance(event, bytes):
                    self._beside -= len(event)
                yield event
            # The epilogue after the last boundary is read and ignored (RFC 2046 section 5.1.1).
            if self._beside > FORM_OVERHEAD:
                raise BadRequest("malformed form: too many bytes beside the files", limit=FORM_OVERHEAD)
        next(self._parse(b""), None)  # the end: raises if the last boundary is missing

    def _limit(self, size: int) -> None:
        if self._max_size is not None and size > self._max_size:
            raise TooLarge(f"the form is larger than {self._max_size} bytes", limit=self._max_size)

    def _parse(self, chunk: Chunk) -> Iterator[MultipartSegment | bytes | None]:
        with mapped({MultipartError: BadRequest}, "malformed form"), mapped(LIMITS, TOO_MUCH):
            # A copy: the parser accepts only bytes, and keeps what may be the beginning of a boundary.
            yield from self._parser.parse(bytes(chunk))


def _until_end(events: Iterator[MultipartSegment | bytes | None]) -> Iterator[bytes]:
    for event in events:
        if not isinstance(event, bytes):
            return
        yield event


def _alone(chunks: Iterator[bytes], files: Iterator[Part]) -> Iterator[bytes]:
    yield from chunks
    if next(files, None) is not None:
        raise BadRequest("here a form must have exactly one file", files=2)


def _digests(part: MultipartSegment) -> tuple[Digest, ...]:
    """Return the digests of a part, of which RFC 9530 fields tell."""
    fields = (part.header("Repr-Digest"), part.header("Content-Digest"))
    return tuple(digest for field in fields if field for digest in parse_field(field))


def _file_name(part: MultipartSegment) -> str | None:
    """Return the file name of a part, with non-UTF-8 bytes replaced; None if the part is not a file."""
    name: str | None = part.filename
    if name is not None:
        return _decoded(name)
    # Some clients send `filename*`, although RFC 7578 forbids it.
    return parse_options_header(part.header("Content-Disposition"))[1].get("filename")


def _decoded(text: str) -> str:
    return text.encode("latin-1", "replace").decode("utf-8", "replace")
