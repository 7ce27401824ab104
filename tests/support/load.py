"""Clients that upload, read and delete without pause, and record the answers."""

import contextlib
import hashlib
import http.client
import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.support.histories import Operation, Outcome
from tests.support.servers import until

BOUNDARY = "boundary"
SIZES = [0, 1, 1000, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22]
SECONDS = 60


class Answer(NamedTuple):
    """The answer to a request; `status` is None if there was none."""

    begin: float
    end: float
    status: int | None
    body: bytes


@dataclass
class Ledger:
    """The operations of all clients and their outcomes, by hash."""

    ports: list[int]  # where servers are listening now
    histories: dict[str, list[Operation]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    trouble: list[str] = field(default_factory=list)
    recent: "deque[tuple[str, bytes]]" = field(default_factory=lambda: deque(maxlen=40))
    end: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, hash_: str, answer: Answer, outcome: Outcome) -> None:
        """Record an operation."""
        with self.lock:
            self.histories.setdefault(hash_, []).append(Operation(answer.begin, answer.end, outcome))
            self.counts[outcome.name] += 1

    @property
    def answered(self) -> int:
        """The number of acknowledged uploads and removals."""
        return sum(self.counts[outcome.name] for outcome in (Outcome.CREATED, Outcome.HELD, Outcome.REMOVED))

    def await_answers(self, number: int) -> None:
        """Wait until this many more uploads and removals were acknowledged, or something went wrong."""
        goal = self.answered + number
        until(lambda: self.answered >= goal or self.trouble, "answers", SECONDS)


class Client(threading.Thread):
    """A client that does random operations."""

    def __init__(self, ledger: Ledger, seed: str) -> None:
        super().__init__()
        self._ledger = ledger
        self._random = random.Random(seed)

    def run(self) -> None:
        """Do operations until told to end."""
        acts = {self._upload: 40, self._upload_again: 15, self._delete: 30, self._read: 15}
        try:
            while not self._ledger.end.is_set():
                (act,) = self._random.choices(list(acts), list(acts.values()))
                act()
        except Exception as error:  # pylint: disable=broad-exception-caught  # reported by the test
            self._ledger.trouble.append(repr(error))

    def _upload(self) -> None:
        size = self._random.randint(0, self._random.choice(SIZES))
        self._send(self._random.randbytes(size))

    def _upload_again(self) -> None:
        for _, data in self._choose():
            self._send(data)

    def _delete(self) -> None:
        for hash_, _ in self._choose():
            answer = self._ask("DELETE", f"/{hash_}")
            if answer is None:
                continue
            outcomes = {200: Outcome.REMOVED, 404: Outcome.MISSING, None: Outcome.REMOVAL_UNANSWERED}
            self._note(hash_, answer, outcomes)

    def _read(self) -> None:
        for hash_, data in self._choose():
            answer = self._ask("GET", f"/{hash_}")
            if answer is None or answer.status is None:
                continue
            if answer.status == 200 and answer.body != data:
                self._ledger.counts["altered"] += 1
            self._note(hash_, answer, {200: Outcome.HELD, 404: Outcome.MISSING})

    def _choose(self) -> list[tuple[str, bytes]]:
        recent = list(self._ledger.recent)
        return [self._random.choice(recent)] if recent else []

    def _send(self, data: bytes) -> None:
        """Upload in one of three ways."""
        hash_ = hashlib.sha256(data).hexdigest()
        way = self._random.choice(["raw", "chunked", "form"])
        if way == "raw":
            answer = self._ask("POST", "/", data)
        elif way == "chunked":
            answer = self._ask("POST", "/", self._pieces(data), Transfer_Encoding="chunked")
        else:
            kind = f"multipart/form-data; boundary={BOUNDARY}"
            head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
            body = b"%s%s\r\n--%s--\r\n" % (head.encode(), data, BOUNDARY.encode())
            answer = self._ask("POST", "/", body, Content_Type=kind)
        if answer is None:
            return
        outcome = Outcome.HELD
        if answer.status == 200:
            told = json.loads(answer.body)
            assert (told["hash"], told["size"]) == (hash_, len(data)), told
            outcome = Outcome.CREATED if told["created"] else Outcome.HELD
            self._ledger.counts[way] += 1
        self._note(hash_, answer, {200: outcome, None: Outcome.UPLOAD_UNANSWERED})
        self._ledger.recent.append((hash_, data))

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        size = self._random.choice([100, 10_000, 1_000_000]) + len(data) // 10
        for start in range(0, len(data), size):
            yield data[start : start + size]

    def _note(self, hash_: str, answer: Answer, outcomes: dict[int | None, Outcome]) -> None:
        if answer.status in outcomes:
            self._ledger.note(hash_, answer, outcomes[answer.status])
        else:
            self._ledger.trouble.append(f"{hash_}: {answer.status} {answer.body!r}")

    def _ask(
        self, method: str, target: str, body: bytes | Iterator[bytes] | None = None, /, **fields: str
    ) -> Answer | None:
        """Send a request on a new connection; returns None when no server accepted it."""
        port = self._random.choice(self._ledger.ports)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection:
            try:
                connection.connect()
            except OSError:
                self._ledger.end.wait(0.01)  # until another server is started
                return None
            begin = time.monotonic()
            headers = {name.replace("_", "-"): value for name, value in fields.items()}
            try:
                connection.request(method, target, body, headers, encode_chunked=body is not None)
                with connection.getresponse() as response:
                    status, data = response.status, response.read()
                return Answer(begin, time.monotonic(), status, data)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                # The server's process is dead and can no longer change the store.
                return Answer(begin, time.monotonic(), None, b"")
