"""Mends a download whose bytes are wrong: fetches those pieces again that are not as the server describes them."""

import hashlib
import re
from typing import BinaryIO

from wsgi_store.client.transport import PIECE, Transport
from wsgi_store.digest import Digest
from wsgi_store.errors import WSGIStoreError

# Bytes below which a whole file is fetched again.
LEAST = 16 << 20
# Bytes of the longest description: 16,384 pieces.
LONGEST = 4 << 20
SIZE = re.compile(rb"<size>([0-9]{1,19})</size>")
PIECES = re.compile(
    rb'<pieces length="([0-9]{1,19})" type="sha-256">\s*((?:<hash>[0-9a-f]{64}</hash>\s*)*)</pieces>'
)
HASH = re.compile(rb"<hash>([0-9a-f]{64})</hash>")


def mend(transport: Transport, digest: Digest, path: str, file: BinaryIO) -> bool:
    """Replace the wrong pieces of a file; returns whether it has its digest afterwards.

    Only the digest is trusted: pieces that are described wrongly cost time and nothing else.
    """
    try:
        described = _described(transport, digest)
        if described is None:
            return False
        size, length, hashes = described
        file.truncate(size)
        whole = digest.algorithm.new()
        for number, hash_ in enumerate(hashes):
            start = number * length
            stop = min(start + length, size)
            if not _is_right(file, start, stop, hash_):
                _fetch(transport, digest, path, file, start, stop)
        file.seek(0)
        while data := file.read(PIECE):
            whole.update(data)
        return bool(whole.digest() == digest.raw)
    except WSGIStoreError:
        return False  # an older server, or one whose copy is damaged


def _described(transport: Transport, digest: Digest) -> tuple[int, int, list[bytes]] | None:
    answer = transport.send("GET", f"{digest.hex}.meta4")
    data = bytearray()
    try:
        with transport.broken():
            for piece in answer.stream(PIECE):
                data += piece
                if len(data) > LONGEST:
                    return None
    finally:
        answer.close()
    size, pieces = SIZE.search(data), PIECES.search(data)
    if size is None or pieces is None:
        return None
    whole, length, hashes = int(size[1]), int(pieces[1]), HASH.findall(pieces[2])
    if whole < LEAST or not length or len(hashes) != -(-whole // length):
        return None
    return whole, length, hashes


def _is_right(file: BinaryIO, start: int, stop: int, hash_: bytes) -> bool:
    file.seek(start)
    found = hashlib.sha256()
    while start < stop and (data := file.read(min(PIECE, stop - start))):
        found.update(data)
        start += len(data)
    return start == stop and found.hexdigest().encode() == hash_


def _fetch(transport: Transport, digest: Digest, path: str, file: BinaryIO, start: int, stop: int) -> None:
    """Fetch a part of the blob again; raises WSGIStoreError."""
    fields = {"Range": f"bytes={start}-{stop - 1}", "If-Match": f'"{digest.hex}"'}

    def attempt() -> None:
        answer = transport.send("GET", path, headers=fields)
        try:
            if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(
                f"bytes {start}-"
            ):
                raise transport.strange()
            file.seek(start)
            left = stop - start
            with transport.broken():
                for data in answer.stream(PIECE):
                    file.write(data[:left])
                    left -= min(left, len(data))
        finally:
            answer.close()

    transport.retries.repeat(attempt)
