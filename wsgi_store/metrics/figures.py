"""The metrics that are counted: their names, labels and help, declared once.

Imported only if metrics are enabled. The counts belong to this process or, if PROMETHEUS_MULTIPROC_DIR is
set before the import, to all processes that share that directory.
"""

import os
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from wsgi_store.digest import Algorithm
from wsgi_store.errors import DigestCollision, StorageFull, StoreUnavailable, WSGIStoreError
from wsgi_store.metrics.shared import Counts, Durations, Key, Number
from wsgi_store.store.contract import Added
from wsgi_store.uploads.events import Event

# Seconds: from a small blob in memory to a large upload over a slow connection.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(frozen=True)
class Figure:
    """A metric, counted separately for each combination of label values."""

    kind: type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]
    name: str
    text: str
    labels: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    """Values of the one label that are told before they are counted: what begins at 1 has not risen."""

    def series(self, *values: str) -> Number:
        """Return the number or histogram that counts these label values."""
        key = self._key(*values)
        if self.kind is HistogramMetricFamily:
            return Durations(COUNTS, key, BOUNDS)
        return Number(COUNTS, key)

    def metric(self, totals: dict[Key, list[float]]) -> Metric:
        """Return the metric for Prometheus, with the totals of all processes."""
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
    # Server errors, and others that alerts watch.
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
EVENTS = Figure(
    CounterMetricFamily,
    "wsgi_store_upload_events",
    "What became of uploads that can be continued.",
    ("event",),
    tuple(event.value for event in Event),
)
STAGED = Figure(GaugeMetricFamily, "wsgi_store_staged_files", "Files being received now.")
STORE_SECONDS = Figure(
    HistogramMetricFamily,
    "wsgi_store_operation_duration_seconds",
    "Time of the operations on the store.",
    ("operation",),
)
ASKED = Figure(
    CounterMetricFamily,
    "wsgi_store_names",
    "Hashes in requests, by their algorithm.",
    ("algorithm",),
    tuple(algorithm.value for algorithm in Algorithm),
)
AMBIGUOUS = Figure(
    CounterMetricFamily,
    "wsgi_store_ambiguous_names",
    "Uploads that have the digest of another file, by its algorithm; they are stored by their primary name.",
    ("algorithm",),
    tuple(algorithm.value for algorithm in Algorithm if not algorithm.collision_resistant),
)
