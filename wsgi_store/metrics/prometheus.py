"""Metrics for Prometheus: requests, failures, bytes received and sent, uploads, durations.

Imported only if metrics are enabled. prometheus-client only formats the counts;
docs/decisions/0015-own-counting.md gives the reasons.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from wsgi_store.digest import Algorithm, Chunk
from wsgi_store.errors import StoreError, WSGIStoreError
from wsgi_store.metrics.figures import (
    AMBIGUOUS,
    ASKED,
    COUNTS,
    EVENTS,
    FAILURES,
    RECEIVED,
    SECONDS,
    SENT,
    STAGED,
    STORE_SECONDS,
    UPLOADS,
)
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.contract import Store
from wsgi_store.store.staged import StagedFile
from wsgi_store.upkeep.ledger import Ledger
from wsgi_store.uploads.part import Part
from wsgi_store.uploads.room import Room
from wsgi_store.version import __version__

P = ParamSpec("P")
T = TypeVar("T")

METHODS = frozenset({"GET", "HEAD", "PATCH", "POST", "PUT", "DELETE"})
SERIES = 1000
# A variable in a route of the URL table; metrics write it as openapi.json does.
_VARIABLE = re.compile("<[a-z]+:([a-z]+)_?>")
# The functions that count a response, by route, method and status.
_answers: dict[tuple[str | None, str, str], Callable[[float], None]] = {}
count_sent = SENT.series().add
_asked = {algorithm.value: ASKED.series(algorithm.value).add for algorithm in Algorithm}
_received = RECEIVED.series().add
_staged = STAGED.series().add


def count(method: str, route: str | None, status: str, seconds: float, failure: str | None) -> None:
    """Count a response before it is sent, so that no response goes uncounted."""
    key = (route, method, status)
    # Cached, because looking up a series by its labels is slow compared with counting.
    add = _answers.get(key)
    if add is None:
        # Clients can invent paths and methods: each would add a series.
        add = SECONDS.series(
            _VARIABLE.sub(r"{\1}", route) if route else "other",
            method if method in METHODS else "other",
            status[:3],
        ).add
        if len(_answers) < SERIES:
            _answers[key] = add
    add(seconds)
    if failure is not None:
        FAILURES.series(failure).add()


def count_asked(algorithm: str, number: int) -> None:
    """Count hashes in a request, by their algorithm."""
    _asked[algorithm](number)


def count_upload(event: str) -> None:
    """Count what became of an upload that can be continued."""
    EVENTS.series(event).add()


class TimedStore:
    """A store whose stat, sizes, open, add, add_all and remove are timed.

    Every other member is that of the wrapped store, so isinstance also finds its optional abilities.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # Set on the instance: calls go straight to the store, and isinstance finds the members of a
        # runtime-checkable protocol on every Python version.
        kind = type(store)
        methods = [name for name in dir(kind) if name[0] != "_" and callable(getattr(kind, name))]
        vars(self).update({name: getattr(store, name) for name in methods})
        self.stat = _timed("stat", store.stat)
        self.sizes = _timed("sizes", store.sizes)
        self.open = _timed("open", store.open)
        self.add = _timed("add", store.add)
        self.add_all = _timed("add_all", store.add_all)
        self.remove = _timed("remove", store.remove)

    def __getattr__(self, name: str) -> Any:
        # Not copied, because a migration changes the algorithms.
        return getattr(self._store, name)


class CountedStaging(Staging):
    """Staging that counts the files and bytes it receives."""

    def receive(self, chunks: Iterable[Chunk], **conditions: Any) -> Receipt:
        """Receive and store a file as Staging does, and count it while it is received."""
        _staged(1)
        try:
            return super().receive(chunks, **conditions)
        finally:
            _staged(-1)

    def receive_all(self, *args: Any, **conditions: Any) -> list[Receipt | WSGIStoreError]:
        """Receive and store several files as Staging does, one at a time, and count the outcomes."""
        _staged(1)
        try:
            outcomes = super().receive_all(*args, **conditions)
        finally:
            _staged(-1)
        for outcome in outcomes:
            if isinstance(outcome, Receipt):
                _counted_receipt(outcome)
        return outcomes

    def fill(self, staged: StagedFile, chunks: Iterable[Chunk], *args: Any, **conditions: Any) -> int:
        """Append bytes to a file as Staging does, and count them, and an upload while it receives them."""
        if isinstance(staged, Part):
            _staged(1)
            try:
                return super().fill(staged, _counted(chunks), *args, **conditions)
            finally:
                _staged(-1)
        if conditions.get("promise") is None:
            chunks = _counted(chunks)
        # Otherwise these are the parts of an upload, which were counted when they arrived.
        return super().fill(staged, chunks, *args, **conditions)

    def renew(self, *args: Any, **conditions: Any) -> Receipt | None:
        """Renew a blob as Staging does, and count it as an upload."""
        receipt = super().renew(*args, **conditions)
        return receipt and _counted_receipt(receipt)

    def publish(self, *args: Any, **conditions: Any) -> Receipt:
        """Publish a file as Staging does, and count the outcome."""
        return _counted_receipt(super().publish(*args, **conditions))


def _counted_receipt(receipt: Receipt) -> Receipt:
    UPLOADS.series(receipt.added.value).add()
    for algorithm in receipt.ambiguous:
        AMBIGUOUS.series(algorithm.value).add()
    return receipt


class _Totals(Collector):
    """The counted metrics, summed over all processes.

    The number of requests is derived from the histogram of their durations: a separate counter would
    cost another write for each request.
    """

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics with their current totals."""
        totals = COUNTS.totals()
        requests = CounterMetricFamily(
            "wsgi_store_requests",
            "Requests by the route they took, method and status, counted when the answer begins.",
            labels=SECONDS.labels,
        )
        for key, cells in totals.items():
            if key.name == SECONDS.name:
                requests.add_metric(key.labels, sum(cells[1:]))
        yield requests
        for figure in (
            SECONDS,
            FAILURES,
            RECEIVED,
            SENT,
            UPLOADS,
            EVENTS,
            AMBIGUOUS,
            ASKED,
            STAGED,
            STORE_SECONDS,
        ):
            yield figure.metric(totals)


class _State(Collector):
    """Metrics that are looked up at each scrape and are the same in every process."""

    def __init__(self, store: Store, staging: Staging, room: Room) -> None:
        self._store = store
        self._staging = staging
        self._room = room

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that the store can report now."""
        unfinished = self._room.unfinished()
        for name, text, value in (
            ("unfinished_uploads", "Uploads that can be continued.", len(unfinished)),
            ("unfinished_upload_bytes", "Bytes received of them.", sum(one.size for one in unfinished)),
            ("promised_bytes", "Room kept for the rest of them.", self._room.promised()),
        ):
            yield GaugeMetricFamily(f"wsgi_store_{name}", text, value=value)
        about = {"version": __version__, "algorithm": self._store.algorithm.value}
        yield InfoMetricFamily("wsgi_store", "What is running.", value=about)
        # A value that cannot be read is left out: 0 would raise a false alarm.
        with suppress(StoreError):
            free = self._staging.free()
            if free is not None:
                yield GaugeMetricFamily("wsgi_store_free_bytes", "Room left for uploads.", value=free)
        with suppress(StoreError):
            held = sum(1 for _ in self._store.quarantined())
            yield GaugeMetricFamily(
                "wsgi_store_quarantined_blobs", "Damaged blobs out of service.", value=held
            )
        with suppress(StoreError):
            ledger = Ledger.load(self._store)
            yield GaugeMetricFamily(
                "wsgi_store_oldest_verification_timestamp_seconds",
                "When the part of the store was verified, or made, that was verified longest ago.",
                # Before the first verification, the store's creation; with unreadable blobs, never.
                value=ledger.oldest if ledger.oldest or ledger.unreadable else self._store.made(),
            )
            for name, text, value in (
                ("verified_blobs", "Blobs read and hashed by verify.", ledger.blobs),
                ("verified_bytes", "Bytes read and hashed by verify.", ledger.bytes),
                ("corrupt_blobs", "Blobs that verify found to be damaged.", ledger.corrupt),
            ):
                yield CounterMetricFamily(f"wsgi_store_{name}", text, value=value)


def render(store: Store, staging: Staging, room: Room, accept: str) -> tuple[bytes, str]:
    """Return the metrics in the format that an Accept field asks for, and its media type."""
    registry = CollectorRegistry()
    registry.register(_State(store, staging, room))
    registry.register(_Totals())
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


def _timed(operation: str, call: Callable[P, T]) -> Callable[P, T]:
    add = STORE_SECONDS.series(operation).add

    def timed(*args: P.args, **kwargs: P.kwargs) -> T:
        begin = perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            add(perf_counter() - begin)

    return timed


def _counted(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        _received(len(chunk))
        yield chunk
