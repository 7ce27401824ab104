"""Clients that upload, read and delete without pause, and record the answers."""

import contextlib
import hashlib
import http.client
import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
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
    """The operations of all clients and their outcomes, by the hash that `algorithms` names first."""

    ports: list[int]  # where servers are listening now
    algorithms: tuple[str, ...] = ("sha256",)
    """By any of them clients ask for a blob."""
    given: set[tuple[str, str]] = field(default_factory=set)
    """The hash of a blob and an algorithm by which it certainly has a name, too."""
    names: dict[str, set[str]] = field(default_factory=dict)
    """All names of a blob by its hash."""
    histories: dict[str, list[Operation]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    trouble: list[str] = field(default_factory=list)
    recent: "deque[bytes]" = field(default_factory=lambda: deque(maxlen=40))
    end: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, hash_: str, answer: Answer, outcome: Outcome) -> None:
        """Record an operation."""
        with self.lock:
            self.histories.setdefault(hash_, []).append(Operation(answer.begin, answer.end, outcome))
            self.counts[outcome.name] += 1

    def key(self, data: bytes) -> str:
        """The hash of a blob in this ledger."""
        return hashed(self.algorithms[0], data)

    @property
    def answered(self) -> int:
        """The number of acknowledged uploads and removals."""
        return sum(self.counts[outcome.name] for outcome in (Outcome.CREATED, Outcome.HELD, Outcome.REMOVED))

    def await_answers(self, number: int) -> None:
        """Wait until this many more uploads and removals were acknowledged, or something went wrong."""
        goal = self.answered + number
        until(lambda: self.answered >= goal or self.trouble, "answers", SECONDS)


def hashed(algorithm: str, data: bytes) -> str:
    """The hash of a blob by an algorithm."""
    return hashlib.new(algorithm, data).hexdigest()


class Client(threading.Thread):
    """A client that does random operations."""

    def __init__(self, ledger: Ledger, seed: str) -> None:
        super().__init__()
        self._ledger = ledger
        self._random = random.Random(seed)

    def run(self) -> None:
        """Do operations until told to end."""
        acts = self._acts()
        try:
            while not self._ledger.end.is_set():
                (act,) = self._random.choices(list(acts), list(acts.values()))
                act()
        except Exception as error:  # pylint: disable=broad-exception-caught  # reported by the test
            self._ledger.trouble.append(repr(error))

    def _acts(self) -> dict[Callable[[], object], int]:
        """What it does, and how often."""
        return {self._upload: 40, self._upload_again: 15, self._delete: 30, self._read: 15}

    def _upload(self) -> None:
        size = self._random.randint(0, self._random.choice(SIZES))
        self._send(self._random.randbytes(size))

    def _upload_again(self) -> None:
        for data in self._choose():
            self._send(data)

    def _delete(self) -> None:
        outcomes = {200: Outcome.REMOVED, 404: Outcome.MISSING, None: Outcome.REMOVAL_UNANSWERED}
        for data in self._choose():
            self._ask_for("DELETE", data, outcomes)

    def _read(self) -> None:
        for data in self._choose():
            answer = self._ask_for("GET", data, {200: Outcome.HELD, 404: Outcome.MISSING})
            if answer is not None and answer.status == 200 and answer.body != data:
                self._ledger.counts["altered"] += 1

    def _ask_for(self, method: str, data: bytes, outcomes: Mapping[int | None, Outcome]) -> Answer | None:
        """Ask for a blob by one of its names, and record the outcome."""
        algorithm, key = self._random.choice(self._ledger.algorithms), self._ledger.key(data)
        # A blob gets some names only when it is uploaded again or migrated.
        certain = algorithm == self._ledger.algorithms[0] or (key, algorithm) in self._ledger.given
        answer = self._ask(method, f"/{hashed(algorithm, data)}")
        if answer is None or (method == "GET" and answer.status is None):
            return None
        if answer.status == 404 and not certain:
            self._ledger.counts["not named yet"] += 1
            return None
        self._ledger.counts[f"{method} by {algorithm}"] += 1
        self._note(key, answer, outcomes)
        return answer

    def _choose(self) -> list[bytes]:
        recent = list(self._ledger.recent)
        return [self._random.choice(recent)] if recent else []

    def _send(self, data: bytes) -> None:
        """Upload in one of three ways."""
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
        key, outcome = self._ledger.key(data), Outcome.HELD
        self._ledger.names[key] = {hashed(algorithm, data) for algorithm in self._ledger.algorithms}
        if answer.status == 200:
            told = json.loads(answer.body)
            assert (told["names"][told["algorithm"]], told["size"]) == (told["hash"], len(data)), told
            assert all(hashed(name, data) == hash_ for name, hash_ in told["names"].items()), told
            self._ledger.given |= {(key, algorithm) for algorithm in told["names"]}
            outcome = Outcome.CREATED if told["created"] else Outcome.HELD
            self._ledger.counts[way] += 1
        self._note(key, answer, {200: outcome, None: Outcome.UPLOAD_UNANSWERED})
        self._ledger.recent.append(data)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        size = self._random.choice([100, 10_000, 1_000_000]) + len(data) // 10
        for start in range(0, len(data), size):
            yield data[start : start + size]

    def _note(self, hash_: str, answer: Answer, outcomes: Mapping[int | None, Outcome]) -> None:
        if answer.status in outcomes:
            self._ledger.note(hash_, answer, outcomes[answer.status])
        else:
            self._ledger.trouble.append(f"{hash_}: {answer.status} {answer.body!r}")

    def _ask(
        self, method: str, target: str, body: bytes | Iterator[bytes] | None = None, /, **fields: str
    ) -> Answer | None:
        """Send a request on a new connection; returns None when no server accepted it."""
        with self._connected() as connection:
            if connection is None:
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

    @contextlib.contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection | None]:
        """A new connection to any server; None when no server accepted it."""
        port = self._random.choice(self._ledger.ports)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection:
            try:
                connection.connect()
            except OSError:
                self._ledger.end.wait(0.01)  # until another server is started
                yield None
            else:
                yield connection
