"""A line that damages what it carries."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.between import Between, Fields


class Line:
    """What lies between a client and the service: it damages bodies, and counts their bytes."""

    def __init__(self) -> None:
        self.damage: dict[int, int] = {}
        """The number of the body that it damages, and where."""
        self.bodies: list[int] = []
        self.paths: list[str] = []
        self.answers: dict[str, tuple[int, Fields, bytes]] = {}
        """Paths that it answers itself, by their ends."""

    def own(self, method: str, path: str) -> tuple[int, Fields, bytes] | None:
        """Note a request, and answer it if its path has an answer."""
        if method == "GET":
            self.paths.append(path)
        for end, answer in self.answers.items():
            if path.endswith(end):
                return answer
        return None

    def changed(self, data: bytes) -> bytes:
        """Count a body of the blob, and damage one byte in it."""
        if len(data) < 1000 or data.startswith(b"<?xml"):
            return data
        at = self.damage.get(len(self.bodies), self.damage.get(-1))
        self.bodies.append(len(data))
        return data if at is None else flipped(data, at)


def flipped(data: bytes, at: int) -> bytes:
    """The same bytes but for one."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@contextmanager
def damaged(port: int) -> Iterator[tuple[Line, str]]:
    """A line to a port of this machine, and the URL of its other end."""
    line = Line()
    with Between(port, line.own, line.changed) as between:
        yield line, between.url
