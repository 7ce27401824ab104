"""What clients of the two protocols of resumable uploads send, byte by byte."""

import json
from typing import NamedTuple

from tests.support.wire import Answer, Connection, message


class Speaker(NamedTuple):
    """A protocol of resumable uploads as its clients speak it."""

    name: str

    def __str__(self) -> str:
        return self.name

    def creation(self, length: int, target: str = "/uploads") -> bytes:
        """The request that creates an upload of so many bytes."""
        if self.name == "tus":
            return message("POST", target, b"", Tus_Resumable="1.0.0", Upload_Length=length)
        return message("POST", target, b"", Upload_Complete="?0", Upload_Length=length, **self._version())

    def head(self, url: str) -> bytes:
        """The request for the offset."""
        if self.name == "tus":
            return message("HEAD", url, Tus_Resumable="1.0.0")
        return message("HEAD", url, **self._version())

    def patch(self, url: str, offset: int, body: bytes | None = None, **fields: str | int) -> bytes:
        """The request that appends the rest of the file; without `body` the fields announce it."""
        if self.name == "tus":
            kind = "application/offset+octet-stream"
            fields |= {"Tus_Resumable": "1.0.0", "Content_Type": kind, "Upload_Offset": offset}
        else:
            kind = "application/partial-upload"
            fields |= {"Upload_Complete": "?1", "Content_Type": kind, "Upload_Offset": offset}
            fields |= self._version()
        return message("PATCH", url, body, **fields)

    def _version(self) -> dict[str, str | int]:
        return {"Upload_Draft_Interop_Version": 8}


TUS, DRAFT = Speaker("tus"), Speaker("draft")
SPEAKERS = [TUS, DRAFT]


def create(speaker: Speaker, port: int, length: int) -> str:
    """Create an upload and return its URL."""
    with Connection(port) as connection:
        answer = connection.ask(speaker.creation(length))
    assert answer.status == 201, answer
    return answer.fields["location"]


def offset(speaker: Speaker, port: int, url: str) -> int:
    """Ask for the offset."""
    answer = head(speaker, port, url)
    assert answer.status in (200, 204), answer
    return int(answer.fields["upload-offset"])


def head(speaker: Speaker, port: int, url: str) -> Answer:
    """Ask about an upload."""
    with Connection(port) as connection:
        return connection.ask(speaker.head(url))


def finish(speaker: Speaker, port: int, url: str, data: bytes) -> str:
    """Send what is missing of a file, and return the hash under which it is stored."""
    begin = offset(speaker, port, url)
    with Connection(port) as connection:
        answer = connection.ask(speaker.patch(url, begin, data[begin:]))
        assert answer.status in (200, 204), answer
        assert answer.fields["upload-offset"] == str(len(data))
    with Connection(port) as connection:
        done = connection.ask(message("GET", url))
    assert done.status == 200, done
    return str(json.loads(done.body)["hash"])
