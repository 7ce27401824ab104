"""A client of tus that does one step at a time, and the files of an upload on the server's disk."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from tests.support.servers import Server, until
from tests.support.wire import Answer, Connection, message

TUS = {"Tus_Resumable": "1.0.0"}
BODY = {**TUS, "Content_Type": "application/offset+octet-stream"}
# Seconds after which a newcomer certainly takes over from a silent holder.
SECONDS = 20


class Told(NamedTuple):
    """What a client was told of an upload: the status, and the offset and the blob if these were told."""

    status: int
    offset: int | None
    blob: str | None


def told(answer: Answer) -> Told:
    """What an answer says."""
    offset, blob = answer.fields.get("upload-offset"), answer.fields.get("content-location")
    return Told(answer.status, None if offset is None else int(offset), blob and blob.rpartition("/")[2])


def create(port: int, length: int, **fields: str) -> str:
    """Create an upload; returns its path."""
    with Connection(port) as client:
        answer = client.ask(message("POST", "/uploads", **TUS, Upload_Length=length, **fields))
    assert answer.status == 201, answer
    return answer.fields["location"]


def ask(port: int, path: str) -> Told:
    """Ask how far an upload is."""
    with Connection(port) as client:
        return told(client.ask(message("HEAD", path, **TUS)))


def offset_of(port: int, path: str) -> int:
    """Ask for the offset of an upload until there is an answer."""
    end = time.monotonic() + SECONDS
    while (found := ask(port, path)).status == 423:
        assert time.monotonic() < end, "the upload stayed locked"
        time.sleep(0.1)
    assert found.status == 200 and found.offset is not None, found
    return found.offset


def head_of(path: str, offset: int, length: int, **fields: str) -> bytes:
    """The head of a request that appends this many bytes."""
    return message("PATCH", path, **BODY, Upload_Offset=offset, Content_Length=length, **fields)


def send(port: int, path: str, offset: int, data: bytes, **fields: str) -> Told:
    """Append bytes."""
    with Connection(port) as client:
        return told(client.ask(head_of(path, offset, len(data), **fields), data))


def answered(client: Connection, data: bytes = b"") -> int | None:
    """Send bytes; returns the status of the answer, None if the connection was closed without one."""
    try:
        client.send(data)
        return client.receive().status
    except (ConnectionError, AssertionError):
        return None


def folder_of(server: Server, path: str) -> Path:
    """The directory of an upload."""
    (folder,) = (server.root / ".uploads").glob(f"*/{path.rpartition('/')[2]}")
    return folder


def holders(server: Server) -> set[int]:
    """The processes that have a part of an upload open."""
    found = set()
    for pid in server.processes():
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except FileNotFoundError:
                continue
            if "/.uploads/" in target and target.removesuffix(" (deleted)").rpartition("/")[2].isdigit():
                found.add(pid)
    return found


def holder(server: Server) -> int:
    """Wait until a process has a part of an upload open; returns its id."""
    until(lambda: len(holders(server)) == 1, "a process that receives an upload")
    return next(iter(holders(server)))


def received(server: Server, path: str, size: int) -> None:
    """Wait until the first part of an upload has this many bytes."""
    part = folder_of(server, path) / "0"
    until(lambda: part.stat().st_size >= size, f"{size} bytes of an upload")


def finished(server: Server, path: str, data: bytes, hash_: str) -> None:
    """Check that the blob is right, and that nothing is left of its upload but the result."""
    blob = server.root / hash_[:2] / hash_
    assert blob.read_bytes() == data, "the blob is not what was sent"
    assert blob.stat().st_mode & 0o777 == 0o444
    assert sorted(file.name for file in folder_of(server, path).iterdir()) == ["done.json", "upload.json"]
    assert not server.staged()
