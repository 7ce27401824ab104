"""Figures for Prometheus: what was asked and answered, what came in and went out, what it took.

Imported only where they are wanted. They belong to the process, and with PROMETHEUS_MULTIPROC_DIR, which
has to be set before, to all processes that share that directory. prometheus-client only writes them out;
docs/decisions/0015-own-counting.md says why it does not count.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from time import perf_counter
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from wsgi_store.digest import Chunk
from wsgi_store.errors import (
    DigestCollision,
    StorageFull,
    StoreError,
    StoreUnavailable,
    WSGIStoreError,
)
from wsgi_store.metrics.shared import Counts, Durations, Key, Number
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.contract import Added, Store
from wsgi_store.upkeep.ledger import Ledger
from wsgi_store.version import __version__

P = ParamSpec("P")
T = TypeVar("T")

# Seconds: from a small blob in memory to a large upload over a slow line.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
METHODS = frozenset({"GET", "HEAD", "POST", "DELETE"})
SERIES = 1000
# Of a path in the URL table; a figure's path is written as in openapi.json.
_VARIABLE = re.compile("<[a-z]+:([a-z]+)_?>")


@dataclass(frozen=True)
class Figure:
    """A figure that is counted, once for each set of values that its labels take."""

    kind: type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]
    name: str
    text: str
    labels: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    """Values of the one label that are told before they are counted: what begins at 1 has not risen."""

    def series(self, *values: str) -> Number:
        """What counts it for these values."""
        key = self._key(*values)
        if self.kind is HistogramMetricFamily:
            return Durations(COUNTS, key, BOUNDS)
        return Number(COUNTS, key)

    def metric(self, totals: dict[Key, list[float]]) -> Metric:
        """What Prometheus is told of it."""
        metric = self.kind(self.name, self.text, labels=self.labels)
        known = map(self._key, self.known) if self.labels else [self._key()]
        totals = {key: [0.0] for key in known} | totals
        for key, cells in totals.items():
            if key.name != self.name:
                continue
            if isinstance(metric, HistogramMetricFamily):
                bounds = [*map(str, BOUNDS), "+Inf"]
                below = zip(bounds, accumulate(cells[1:]), strict=True)
                metric.add_metric(key.labels, list(below), sum_value=cells[0])
            else:
                metric.add_metric(key.labels, cells[0])
        return metric

    def _key(self, *values: str) -> Key:
        return Key(self.name, values, live=self.kind is GaugeMetricFamily)


COUNTS = Counts(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
SECONDS = Figure(
    HistogramMetricFamily,
    "wsgi_store_request_duration_seconds",
    "Time from the head of a request to the beginning of its answer, an upload included.",
    ("route", "method", "status"),
)
FAILURES = Figure(
    CounterMetricFamily,
    "wsgi_store_failures",
    "Requests answered with a problem, by its code.",
    ("code",),
    # Those that are no client's fault, and what else an alert looks at.
    tuple(kind.code for kind in (WSGIStoreError, StoreUnavailable, StorageFull, DigestCollision)),
)
RECEIVED = Figure(CounterMetricFamily, "wsgi_store_received_bytes", "Bytes of files received, kept or not.")
SENT = Figure(CounterMetricFamily, "wsgi_store_sent_bytes", "Bytes of the bodies of answers.")
UPLOADS = Figure(
    CounterMetricFamily,
    "wsgi_store_uploads",
    "Uploads acknowledged: created, held already (deduplicated), or healed.",
    ("outcome",),
    tuple(added.value for added in Added),
)
STAGED = Figure(GaugeMetricFamily, "wsgi_store_staged_files", "Files being received now.")
STORE_SECONDS = Figure(
    HistogramMetricFamily,
    "wsgi_store_operation_duration_seconds",
    "Time of the operations on the store.",
    ("operation",),
)
# What counts the answers of a route, by method and status.
_answers: dict[tuple[str | None, str, str], Callable[[float], None]] = {}
count_sent = SENT.series().add
_received = RECEIVED.series().add
_staged = STAGED.series().add


def count(method: str, route: str | None, status: str, seconds: float, failure: str | None) -> None:
    """Count an answer that is about to begin, so that none is given uncounted."""
    key = (route, method, status)
    # Kept, for finding a series by its labels takes as long as counting.
    add = _answers.get(key)
    if add is None:
        # Anybody can invent paths and methods, and each would be a series of its own.
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


class TimedStore:
    """A store whose stat, open, add and remove are timed.

    Everything else is the wrapped store's own, its optional abilities included: isinstance finds them.
    """

    def __init__(self, store: Store) -> None:
        # Attributes of the instance, so that no call takes a detour and every Python version finds the
        # members of a runtime-checkable protocol.
        vars(self).update({name: getattr(store, name) for name in dir(store) if not name.startswith("_")})
        self.stat = _timed("stat", store.stat)
        self.open = _timed("open", store.open)
        self.add = _timed("add", store.add)
        self.remove = _timed("remove", store.remove)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class CountedStaging(Staging):
    """Staging that counts the files and bytes it receives."""

    def receive(self, chunks: Iterable[Chunk], **conditions: Any) -> Receipt:
        """Store what `chunks` yield, when they end well."""
        _staged(1)
        try:
            receipt = super().receive(_counted(chunks), **conditions)
        finally:
            _staged(-1)
        UPLOADS.series(receipt.added.value).add()
        return receipt


class _Totals(Collector):
    """What was counted.

    How many requests there were is told by the histogram of their durations: a counter beside it
    would be one more number to write for each request.
    """

    def collect(self) -> Iterator[Metric]:
        """Look."""
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
        for figure in (SECONDS, FAILURES, RECEIVED, SENT, UPLOADS, STAGED, STORE_SECONDS):
            yield figure.metric(totals)


class _State(Collector):
    """What is looked up when it is asked for, and the same whichever process is asked."""

    def __init__(self, store: Store, staging: Staging) -> None:
        self._store = store
        self._staging = staging

    def collect(self) -> Iterator[Metric]:
        """Look."""
        about = {"version": __version__, "algorithm": self._store.algorithm.value}
        yield InfoMetricFamily("wsgi_store", "What is running.", value=about)
        # Where it cannot be told, Prometheus is told nothing: 0 would raise a false alarm.
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
                # What never was is no older than the store; what cannot be read is as good as never verified.
                value=ledger.oldest if ledger.oldest or ledger.unreadable else self._store.made(),
            )
            for name, text, value in (
                ("verified_blobs", "Blobs read and hashed by verify.", ledger.blobs),
                ("verified_bytes", "Bytes read and hashed by verify.", ledger.bytes),
                ("corrupt_blobs", "Blobs that verify found to be damaged.", ledger.corrupt),
            ):
                yield CounterMetricFamily(f"wsgi_store_{name}", text, value=value)


def render(store: Store, staging: Staging, accept: str) -> tuple[bytes, str]:
    """The figures as Prometheus reads them, and their media type, as an Accept field asks for it."""
    registry = CollectorRegistry()
    registry.register(_State(store, staging))
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
