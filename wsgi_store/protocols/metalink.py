"""Metalinks (RFC 5854): the size, the hashes and the piece hashes of a blob, for `aria2c` among others."""

from collections.abc import Iterator
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BadRequest, NotFound
from wsgi_store.store.pieces import PieceHashes
from wsgi_store.web.request import Request
from wsgi_store.web.response import NO_SNIFFING, Response

KIND = "application/metalink4+xml"
# The textual names of RFC 5854 section 4.2.4 (IANA, "Hash Function Textual Names").
NAMES = {
    Algorithm.MD5: "md5",
    Algorithm.SHA1: "sha-1",
    Algorithm.SHA256: "sha-256",
    Algorithm.SHA512: "sha-512",
}


def metalink(request: Request, hash_: str) -> Response:
    """Describe a blob and its pieces, which are hashed when they are asked for first.

    `?filename=` is the name under which clients save it. Raises BlobNotFound, BadRequest, NotFound for a
    store that hashes no pieces, and StoreUnavailable if the blob is damaged.
    """
    store = request.backend.pieces
    if store is None:
        raise NotFound("this store hashes no pieces of blobs: it is not a directory")
    digest = request.blob_digest(hash_)
    given = request.args.get("filename")
    name = given or digest.hex
    if name in (".", "..") or not name.isprintable() or set(name) & set("/\\"):
        raise BadRequest("filename: expected a name without / and control characters")
    blob = request.store.stat(digest)
    pieces = store.pieces(digest)
    url = f"{request.base}/{digest.hex}{f'/{quote(name)}' if given else ''}"
    # A signed link is for this blob alone, so the client may use it for the bytes, too.
    if link := request.args.get("link"):
        url += f"?link={quote(link)}"
    request.allow_time()
    fields = [
        ("Content-Type", KIND),
        ("Content-Disposition", f'attachment; filename="{digest.hex}.meta4"'),
        ("Cache-Control", "private, no-cache"),
        NO_SNIFFING,
    ]
    return Response(b"".join(_written(name, url, blob.names, pieces)), 200, fields)


def _written(name: str, url: str, names: tuple[Digest, ...], pieces: PieceHashes) -> Iterator[bytes]:
    yield b'<?xml version="1.0" encoding="UTF-8"?>\n<metalink xmlns="urn:ietf:params:xml:ns:metalink">\n'
    yield f"<file name={quoteattr(name)}>\n<size>{pieces.size}</size>\n".encode()
    for one in names:
        if one.algorithm in NAMES:
            yield f'<hash type="{NAMES[one.algorithm]}">{one.hex}</hash>\n'.encode()
    if pieces.size:
        yield f'<pieces length="{pieces.length}" type="sha-256">\n'.encode()
        for digest in pieces:
            yield f"<hash>{digest.hex()}</hash>\n".encode()
        yield b"</pieces>\n"
    yield f"<url>{escape(url)}</url>\n</file>\n</metalink>\n".encode()
