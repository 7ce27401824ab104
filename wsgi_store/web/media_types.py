"""Content-Type and Content-Disposition of a download, from its file name."""

import mimetypes
from functools import lru_cache
from urllib.parse import quote

from werkzeug.http import dump_options_header

UNKNOWN = "application/octet-stream"
# Types that a browser shows without running scripts; SVG, HTML, XML and PDF can contain some.
INLINE = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "text/plain"}
)
INLINE_FAMILIES = ("audio/", "video/")
# A page of the same site could use these as scripts and styles of its own, though its policy forbids others.
CODE = frozenset({"text/javascript", "application/javascript", "text/css"})
# A compressed file gets a type of its own: with Content-Encoding clients would decompress it, and the bytes
# would no longer match the hash.
COMPRESSED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "br": "application/x-brotli",
    "compress": "application/x-compress",
}
# Without the machine's own tables, so that every server answers the same. Some versions of Python lack the
# types below, or know them only in non-strict mode.
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


def ending_of(kind: str) -> str:
    """Return an ending of file names, such as `.png`, for a media type; `.bin` if none is known."""
    return TYPES.guess_extension(kind) or ".bin"


@lru_cache(32)
def describe(filename: str | None) -> tuple[str, str]:
    """Return Content-Type and Content-Disposition (RFC 6266) for a file name."""
    if not filename:
        return UNKNOWN, "attachment"
    guess, encoding = TYPES.guess_type("/" + quote(filename))
    kind = COMPRESSED.get(encoding, UNKNOWN) if encoding else guess or UNKNOWN
    if kind in CODE:
        kind = "text/plain"
    inline = kind in INLINE or kind.startswith(INLINE_FAMILIES)
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    options = {"filename": filename.encode("ascii", "replace").decode()}
    # The plain form is for old clients; the extended one (RFC 8187) is added if it differs.
    options["filename"] = "".join(
        c if c.isprintable() and c not in '"\\%' else "_" for c in options["filename"]
    )
    if options["filename"] != filename:
        options["filename*"] = "UTF-8''" + quote(filename, safe="!#$&+.^_`|~")
    return kind, dump_options_header("inline" if inline else "attachment", options)
