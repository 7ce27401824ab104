"""The file in a form (multipart/form-data, RFC 7578)."""

import re
from collections.abc import Iterator

# pylint: disable-next=no-name-in-module  # python-multipart, which others use, has a package of this name
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser
from werkzeug.http import parse_options_header

from wsgi_store.digest import Chunk
from wsgi_store.errors import BadRequest, mapped

# Bytes of a form beside the file: boundaries, part headers and ordinary fields.
FORM_OVERHEAD = 4 << 20
FORM_PARTS = 1000
FORM_HEADER = 16 << 10
LIMITS = {ParserLimitReached: BadRequest}
TOO_MUCH = f"malformed form: more than {FORM_PARTS} parts, or a part header of more than {FORM_HEADER} bytes"
BOUNDARY = re.compile("[ -~]{1,70}")  # clients use more characters than RFC 2046 section 5.1.1 permits


class Form:
    """A multipart/form-data body with exactly one file among its parts (RFC 7578)."""

    def __init__(self, chunks: Iterator[Chunk], boundary: str) -> None:
        self.name: str | None = None
        self._files = 0
        self._chunks = chunks
        if not BOUNDARY.fullmatch(boundary):
            raise BadRequest("malformed form: the boundary must have 1 to 70 printable ASCII characters")
        # File names come in any encoding: latin-1 decodes every byte, and `_file_name` encodes it again.
        self._parser = PushMultipartParser(
            boundary, max_header_size=FORM_HEADER, max_segment_count=FORM_PARTS, header_charset="latin1"
        )

    def file(self) -> Iterator[bytes]:
        """Yield the bytes of the file; raises BadRequest unless there is exactly one."""
        name: str | None = None
        is_file = False
        beside = 0
        for chunk in self._chunks:
            beside += len(chunk)
            for event in self._parse(chunk):
                if isinstance(event, MultipartSegment):
                    name = _file_name(event)
                    # A part without a name is a file only if it has bytes: a browser sends an empty part
                    # with an empty name if no file was chosen.
                    is_file = bool(name)
                    if is_file:
                        self._begin(name)
                elif event and name is not None:
                    if not is_file:
                        is_file = True
                        self._begin(None)
                    beside -= len(event)
                    yield event
            # The epilogue after the last boundary is read and ignored (RFC 2046 section 5.1.1).
            if beside > FORM_OVERHEAD:
                raise BadRequest("malformed form: too many bytes beside the file", limit=FORM_OVERHEAD)
        next(self._parse(b""), None)  # the end: raises if the last boundary is missing
        if self._files != 1:
            raise BadRequest("a form must have exactly one file part", files=self._files)

    def _begin(self, name: str | None) -> None:
        self._files += 1
        if self._files > 1:
            raise BadRequest("a form must have exactly one file part", files=self._files)
        self.name = name

    def _parse(self, chunk: Chunk) -> Iterator[MultipartSegment | bytes | None]:
        with mapped({MultipartError: BadRequest}, "malformed form"), mapped(LIMITS, TOO_MUCH):
            # A copy: the parser accepts only bytes, and keeps what may be the beginning of a boundary.
            yield from self._parser.parse(bytes(chunk))


def _file_name(part: MultipartSegment) -> str | None:
    """Return the file name of a part, with non-UTF-8 bytes replaced; None if the part is not a file."""
    name: str | None = part.filename
    if name is not None:
        return name.encode("latin-1", "replace").decode("utf-8", "replace")
    # Some clients send `filename*`, although RFC 7578 forbids it.
    return parse_options_header(part.header("Content-Disposition"))[1].get("filename")
