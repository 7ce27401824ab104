"""What a file name says of a blob: Content-Type and Content-Disposition."""

import mimetypes
from functools import lru_cache
from urllib.parse import quote

from werkzeug.http import dump_options_header

UNKNOWN = "application/octet-stream"
# Types a browser shows without running anything. SVG, HTML, XML and PDF can carry scripts.
INLINE = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "text/plain"}
)
INLINE_FAMILIES = ("audio/", "video/")
# A compressed file is its own type: saying Content-Encoding would make clients unpack it,
# and the bytes would no longer be those of the hash.
COMPRESSED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "br": "application/x-brotli",
    "compress": "application/x-compress",
}
# Built without the machine's own tables, so that every server answers alike. Some versions of Python
# lack these, or have them only for who is not strict.
TYPES = mimetypes.MimeTypes()
for _kind, _ending in (
    ("image/avif", ".avif"),
    ("image/webp", ".webp"),
    ("audio/flac", ".flac"),
    ("audio/mp4", ".m4a"),
    ("audio/ogg", ".ogg"),
    ("audio/ogg", ".opus"),
    ("video/ogg", ".ogv"),
    ("video/x-matroska", ".mkv"),
):
    TYPES.add_type(_kind, _ending)


@lru_cache(32)
def describe(filename: str | None) -> tuple[str, str]:
    """Content-Type and Content-Disposition (RFC 6266) for a file name."""
    if not filename:
        return UNKNOWN, "attachment"
    guess, encoding = TYPES.guess_type("/" + quote(filename))
    kind = COMPRESSED.get(encoding, UNKNOWN) if encoding else guess or UNKNOWN
    inline = kind in INLINE or kind.startswith(INLINE_FAMILIES)
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    options = {"filename": filename.encode("ascii", "replace").decode()}
    # The plain form for old clients, the extended one (RFC 8187) where it says more.
    options["filename"] = "".join(
        c if c.isprintable() and c not in '"\\%' else "_" for c in options["filename"]
    )
    if options["filename"] != filename:
        options["filename*"] = "UTF-8''" + quote(filename, safe="!#$&+.^_`|~")
    return kind, dump_options_header("inline" if inline else "attachment", options)
