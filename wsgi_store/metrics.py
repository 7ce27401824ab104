"""Figures for Prometheus: what was asked and answered, what came in and went out, what it took.

Imported only where they are wanted. Their values belong to the process, and with
PROMETHEUS_MULTIPROC_DIR, which has to be set before, to all processes that share that directory.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from wsgi_store import __version__
from wsgi_store.digest import Chunk
from wsgi_store.errors import StoreError
from wsgi_store.sending import Response
from wsgi_store.staging import Receipt, Staging
from wsgi_store.stores import Store
from wsgi_store.verified import Verified

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

P = ParamSpec("P")
T = TypeVar("T")

# Seconds: from a small blob in memory to a large upload over a slow line.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
METHODS = frozenset({"GET", "HEAD", "POST", "DELETE"})
SERIES = 1000
# Of a path in the URL table; a figure's path is written as in openapi.json.
_VARIABLE = re.compile("<[a-z]+:([a-z]+)_?>")

REGISTRY = CollectorRegistry()
SECONDS = Histogram(
    "wsgi_store_request_duration_seconds",
    "Time from the head of a request to the beginning of its answer, an upload included.",
    ["route", "method", "status"],
    buckets=BUCKETS,
    registry=REGISTRY,
)
FAILURES = Counter(
    "wsgi_store_failures", "Requests answered with a problem, by its code.", ["code"], registry=REGISTRY
)
RECEIVED = Counter("wsgi_store_received_bytes", "Bytes of files received, kept or not.", registry=REGISTRY)
SENT = Counter("wsgi_store_sent_bytes", "Bytes of the bodies of answers.", registry=REGISTRY)
UPLOADS = Counter(
    "wsgi_store_uploads",
    "Uploads acknowledged: created, held already (deduplicated), or healed.",
    ["outcome"],
    registry=REGISTRY,
)
STAGED = Gauge(
    "wsgi_store_staged_files",
    "Files being received now.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
STORE_SECONDS = Histogram(
    "wsgi_store_operation_duration_seconds",
    "Time of the operations on the store.",
    ["operation"],
    buckets=BUCKETS,
    registry=REGISTRY,
)
# What counts the answers of a route, by method and status.
_answers: dict[tuple[str | None, str, str], Callable[[float], None]] = {}
_sent = SENT.inc


def count(
    environ: "WSGIEnvironment", route: str | None, response: Response, seconds: float, failure: str | None
) -> None:
    """Count an answer that is about to begin, so that none is given uncounted."""
    key = (route, environ["REQUEST_METHOD"], response.status)
    # Kept, for finding a series by its labels takes as long as counting.
    observe = _answers.get(key)
    if observe is None:
        # Anybody can invent paths and methods, and each would be a series of its own.
        observe = SECONDS.labels(
            _VARIABLE.sub(r"{\1}", route) if route else "other",
            key[1] if key[1] in METHODS else "other",
            response.status[:3],
        ).observe
        if len(_answers) < SERIES:
            _answers[key] = observe
    observe(seconds)
    if failure is not None:
        FAILURES.labels(failure).inc()
    if "gunicorn.socket" in environ:
        environ["wsgi_store.sent"] = _sent  # its log learns how much of a body goes out
    elif environ["REQUEST_METHOD"] != "HEAD":
        SENT.inc(int(dict(response.headers).get("Content-Length", 0)))


class TimedStore:
    """A store whose operations are timed."""

    def __init__(self, store: Store) -> None:
        self.algorithm = store.algorithm
        self.staging_directory = store.staging_directory
        self.keeps_staged = store.keeps_staged
        self.granularity = store.granularity
        self.stat = _timed("stat", store.stat)
        self.open = _timed("open", store.open)
        self.add = _timed("add", store.add)
        self.remove = _timed("remove", store.remove)
        # Of these the time says nothing, or they are not for requests.
        self.check = store.check
        self.local_path = store.local_path
        self.url = store.url
        self.begin = store.begin
        self.iterate = store.iterate
        self.expire = store.expire
        self.quarantine = store.quarantine
        self.quarantined = store.quarantined
        self.discard = store.discard
        self.abandoned = store.abandoned
        self.load_note = store.load_note
        self.update_note = store.update_note


class CountedStaging(Staging):
    """Staging that counts the files and bytes it receives."""

    def receive(self, chunks: Iterable[Chunk], **conditions: Any) -> Receipt:
        """Store what `chunks` yield, when they end well."""
        with STAGED.track_inprogress():
            receipt = super().receive(_counted(chunks), **conditions)
        UPLOADS.labels(receipt.added.value).inc()
        return receipt


class _Counts(Collector):
    """What was counted, by this process or by all that share a directory.

    How many requests there were is told by the histogram of their durations: a counter beside it
    would be one more value to write for each request, which takes a sixth of all that counting takes.
    """

    def __init__(self) -> None:
        self._all: Collector = REGISTRY
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            self._all = MultiProcessCollector(None)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        """Look."""
        for metric in self._all.collect():
            if metric.name == "wsgi_store_request_duration_seconds":
                requests = Metric(
                    "wsgi_store_requests",
                    "Requests by the route they took, method and status, counted when the answer begins.",
                    "counter",
                )
                for sample in metric.samples:
                    if sample.name.endswith("_count"):
                        requests.add_sample("wsgi_store_requests_total", sample.labels, sample.value)
                yield requests
            yield metric


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
            verified = Verified.load(self._store)
            yield GaugeMetricFamily(
                "wsgi_store_oldest_verification_timestamp_seconds",
                "When the part of the store was verified that was verified longest ago, 0 for never.",
                value=verified.oldest,
            )
            for name, text, value in (
                ("verified_blobs", "Blobs read and hashed by verify.", verified.blobs),
                ("verified_bytes", "Bytes read and hashed by verify.", verified.bytes),
                ("corrupt_blobs", "Blobs that verify found to be damaged.", verified.corrupt),
            ):
                yield CounterMetricFamily(f"wsgi_store_{name}", text, value=value)


def render(store: Store, staging: Staging, accept: str) -> tuple[bytes, str]:
    """The figures as Prometheus reads them, and their media type, as an Accept field asks for it."""
    registry = CollectorRegistry()
    registry.register(_State(store, staging))
    registry.register(_Counts())
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


def _timed(operation: str, call: Callable[P, T]) -> Callable[P, T]:
    observe = STORE_SECONDS.labels(operation).observe

    def timed(*args: P.args, **kwargs: P.kwargs) -> T:
        begin = perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            observe(perf_counter() - begin)

    return timed


def _counted(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        RECEIVED.inc(len(chunk))
        yield chunk
