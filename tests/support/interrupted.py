"""Clients that also upload in pieces by tus, break off, and continue on any server."""

import http.client
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.histories import Outcome
from tests.support.load import SIZES, Answer, Client, Ledger, hashed

# Uploads that a client may have begun and not finished.
OPEN = 4
# Statuses that say to try again: another request holds the upload.
LATER = (409, 423)
LATE = float("inf")


@dataclass
class Begun:
    """An upload, and the last offset that its client got."""

    path: str
    data: bytes
    known: int = 0
    """How many of its bytes were acknowledged."""
    sent: int = 0
    """How many of its bytes were sent, the last time they were."""
    begun: float = 0
    """When the last request began that sent some, by time.monotonic."""
    arrived: float = 0
    """Its last byte arrived no earlier."""
    ending: float | None = None
    """When its last piece was first sent."""


class Interrupted(Client):
    """A client that does random operations; `kept` is how many seconds the servers keep its uploads."""

    def __init__(self, ledger: Ledger, seed: str, kept: float) -> None:
        super().__init__(ledger, seed)
        self._kept = kept
        self._begun: list[Begun] = []

    def run(self) -> None:
        """Do operations until told to end; what became of unfinished uploads is not known then."""
        super().run()
        for one in self._begun:
            self._give_up(one)

    def _acts(self) -> dict[Callable[[], object], int]:
        return {**super()._acts(), self._begin: 15, self._continue: 60}

    def _begin(self) -> None:
        """Create an upload, of new bytes or of those of a blob."""
        if len(self._begun) >= OPEN:
            return
        recent = list(self._ledger.recent)
        data = self._random.randbytes(self._random.randint(1, self._random.choice(SIZES[1:])))
        if recent and self._random.random() < 0.3:
            data = self._random.choice(recent) or data
        answer = self._tus("POST", "/uploads", None, {"Upload-Length": str(len(data))})
        if answer is None or answer[0].status is None:
            return
        if answer[0].status != 201:
            self._ledger.trouble.append(f"creation: {answer[0].status} {answer[0].body!r}")
            return
        self._begun.append(Begun(answer[1]["location"], data, arrived=answer[0].begin))

    def _continue(self) -> None:
        """Ask for the offset and send a piece; the connection may break."""
        if not self._begun:
            return
        one = self._random.choice(self._begun)
        answer = self._tus("HEAD", one.path, None, {})
        if answer is None or not self._heard(one, *answer):
            return
        if one not in self._begun:
            return
        end = min(len(one.data), one.known + self._random.randint(1, max(1, len(one.data))))
        piece = one.data[one.known : end]
        whole = piece if self._random.random() < 0.7 else piece[: self._random.randint(0, len(piece))]
        if end == len(one.data) and one.ending is None:
            one.ending = time.monotonic()
        fields = {"Upload-Offset": str(one.known), "Content-Length": str(len(piece))}
        answer = self._tus("PATCH", one.path, whole, fields)
        if answer is not None:
            one.sent = one.known + len(whole)
            one.begun = answer[0].begin
            self._ledger.counts["pieces"] += 1
            self._ledger.counts["pieces cut by the client"] += len(whole) < len(piece)
            self._heard(one, *answer)

    def _heard(self, one: Begun, answer: Answer, fields: dict[str, str]) -> bool:
        """Compare an answer with what was acknowledged before; returns whether the upload can go on."""
        if answer.status is None or answer.status in LATER:
            return False
        if answer.status == 404 and answer.end - one.arrived > self._kept:
            self._ledger.counts["expired"] += 1
            self._give_up(one)
            self._begun.remove(one)
            return False
        offset = fields.get("upload-offset")
        if answer.status not in (200, 204) or offset is None or int(offset) < one.known:
            told = f"{answer.status} {offset} {answer.body!r}"
            self._ledger.trouble.append(f"{one.path}: {told}, and {one.known} bytes before")
            self._begun.remove(one)
            return False
        self._ledger.counts["bytes sent twice"] += max(0, one.sent - int(offset))
        if int(offset) > one.known:
            one.arrived = one.begun
        one.known = one.sent = int(offset)
        if one.known < len(one.data):
            return True
        self._begun.remove(one)
        key = self._ledger.key(one.data)
        self._note_names(one.data, key)
        if fields.get("content-location", "").rpartition("/")[2] != key:
            self._ledger.trouble.append(f"{one.path}: stored as {fields}")
        begin = answer.begin if one.ending is None else one.ending
        self._ledger.note(key, answer._replace(begin=begin), Outcome.UPLOADED)
        self._ledger.recent.append(one.data)
        return True

    def _give_up(self, one: Begun) -> None:
        """Note that the file may be stored at any time, or never."""
        if one.ending is not None:
            key = self._ledger.key(one.data)
            self._note_names(one.data, key)
            answer = Answer(one.ending, LATE, None, b"")
            self._ledger.note(key, answer, Outcome.UPLOAD_UNANSWERED)

    def _note_names(self, data: bytes, key: str) -> None:
        self._ledger.names[key] = {hashed(algorithm, data) for algorithm in self._ledger.algorithms}

    def _tus(
        self, method: str, target: str, body: bytes | None, fields: dict[str, str]
    ) -> tuple[Answer, dict[str, str]] | None:
        """Send a request; returns None when no server accepted it."""
        headers = {"Tus-Resumable": "1.0.0", **fields}
        if body is not None:
            headers["Content-Type"] = "application/offset+octet-stream"
        with self._connected() as connection:
            if connection is None:
                return None
            begin = time.monotonic()
            try:
                connection.request(method, target, body, headers)
                if body is not None and len(body) < int(fields["Content-Length"]):
                    return Answer(begin, time.monotonic(), None, b""), {}
                with connection.getresponse() as response:
                    data = response.read()
                told = {name.lower(): value for name, value in response.getheaders()}
                return Answer(begin, time.monotonic(), response.status, data), told
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                return Answer(begin, time.monotonic(), None, b""), {}
