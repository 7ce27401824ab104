"""Mends a file whose bytes are wrong: only its wrong pieces are downloaded again."""

import hashlib
import io
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from wsgi_store.client.transport import PIECE, Transport
from wsgi_store.digest import Digest
from wsgi_store.errors import StoreUnavailable, Unreachable, WSGIStoreError

# Smaller files, in bytes, are downloaded again as a whole.
LEAST = 16 << 20
# Bytes of the longest description that is read; one of 16,384 pieces has 1.3 MB.
LONGEST = 4 << 20
# How often wrong pieces are downloaded: the connection may damage them again.
ROUNDS = 3
SIZE = re.compile(rb"<size>([0-9]{1,18})</size>")
PIECES = re.compile(
    rb'<pieces length="([0-9]{1,18})" type="sha-256">\s*((?:<hash>[0-9a-f]{64}</hash>\s*)+)</pieces>'
)
HASH = re.compile(rb"<hash>([0-9a-f]{64})</hash>")


class _Piece(NamedTuple):
    start: int
    stop: int
    hash: str


def mend(transport: Transport, digest: Digest, path: str, file: BinaryIO) -> bool:
    """Replace the wrong pieces of a file with those of the blob at a path below the server's URL.

    Returns whether the file has the digest now; the position is then its end. Returns False if the file is
    small or the server does not know the hashes of pieces. Nothing but the digest is trusted: a wrong
    description costs time. Raises Unreachable and StoreUnavailable, and then the next call goes on.
    """
    if file.seek(0, io.SEEK_END) < LEAST:
        return False
    try:
        pieces = transport.retries.repeat(lambda: _described(transport, digest, path))
        if not pieces:
            return False
        file.truncate(min(file.seek(0, io.SEEK_END), pieces[-1].stop))
        wrong = [piece for piece in pieces if not _is_right(file, piece)]
        for _ in range(ROUNDS):
            for start, stop in _joined(wrong):
                _fetch(transport, digest, path, file, start, stop)
            wrong = [piece for piece in wrong if not _is_right(file, piece)]
    except (StoreUnavailable, Unreachable):
        raise
    except WSGIStoreError:
        return False  # an older server, or one whose copy is damaged
    whole = digest.algorithm.new()
    file.seek(0)
    while data := file.read(PIECE):
        whole.update(data)
    return bool(whole.digest() == digest.raw)


def _described(transport: Transport, digest: Digest, path: str) -> list[_Piece]:
    """Ask for the pieces of a blob (RFC 5854); returns none if there are none to rely on."""
    query = path.partition("?")[2]  # a signed link, which is good for this, too
    try:
        answer = transport.send("GET", f"{digest.hex}.meta4" + (f"?{query}" if query else ""))
    except StoreUnavailable as error:
        if "hash" in error.evidence:
            return []  # the blob is damaged, so waiting does not help
        raise
    data = bytearray()
    try:
        with transport.broken():
            for read in answer.stream(PIECE):
                data += read
                if len(data) > LONGEST:
                    return []
    finally:
        answer.close()
    size, pieces = SIZE.search(data), PIECES.search(data)
    if size is None or pieces is None:
        return []
    whole, length, hashes = int(size[1]), int(pieces[1]), HASH.findall(pieces[2])
    if not whole or not length or len(hashes) != -(-whole // length):
        return []
    return [
        _Piece(number * length, min((number + 1) * length, whole), hash_.decode())
        for number, hash_ in enumerate(hashes)
    ]


def _is_right(file: BinaryIO, piece: _Piece) -> bool:
    file.seek(piece.start)
    left = piece.stop - piece.start
    found = hashlib.sha256()
    while left and (data := file.read(min(PIECE, left))):
        found.update(data)
        left -= len(data)
    return not left and found.hexdigest() == piece.hash


def _joined(pieces: list[_Piece]) -> Iterator[tuple[int, int]]:
    """Yield the parts of a file that pieces make up, so that neighbours need one request."""
    begin = end = 0
    for piece in pieces:
        if piece.start != end:
            if begin < end:
                yield begin, end
            begin = piece.start
        end = piece.stop
    if begin < end:
        yield begin, end


def _fetch(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    transport: Transport, digest: Digest, path: str, file: BinaryIO, start: int, stop: int
) -> None:
    """Download a part of the blob into its place in the file."""
    at = start

    def attempt() -> None:
        nonlocal at
        # With If-Match the server answers itself, and does not redirect.
        fields = {"Range": f"bytes={at}-{stop - 1}", "If-Match": f'"{digest.hex}"'}
        answer = transport.send("GET", path, headers=fields)
        try:
            if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {at}-"):
                raise transport.strange()
            file.seek(at)
            with transport.broken():
                for data in answer.stream(PIECE):
                    at += file.write(data[: stop - at])
        finally:
            answer.close()

    while at < stop:
        before = at
        transport.retries.repeat(attempt, reached=lambda: at)
        if at == before:
            raise transport.strange()
