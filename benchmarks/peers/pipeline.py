"""The least work for an upload in any content-addressed store: read, hash, write, name by the hash."""

import hashlib
import os
import secrets
from collections.abc import Iterable
from typing import Any

from benchmarks.peers import limit

SYNC = os.environ.get("WSGI_STORE_DURABILITY") == "full"


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Store a POST under its sha256; `limit` answers everything else."""
    if environ["REQUEST_METHOD"] != "POST":
        return limit.application(environ, start_response)
    read = environ["wsgi.input"].read
    sha256 = hashlib.sha256()
    path = f"{limit.ROOT}/{secrets.token_hex(16)}"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444)
    try:
        while block := read(limit.BLOCK):
            sha256.update(block)
            os.write(fd, block)
        if SYNC:
            os.fsync(fd)
    finally:
        os.close(fd)
    hash_ = sha256.hexdigest()
    os.rename(path, f"{limit.ROOT}/{hash_}")
    if SYNC:
        directory = os.open(limit.ROOT, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    start_response("200 OK", [("Content-Length", "65")])
    return [hash_.encode() + b"\n"]
