"""How far the blobs of a store have got the further names that were added to it."""

import json

from wsgi_store.store.contract import Store
from wsgi_store.store.marker import Marker
from wsgi_store.upkeep.plan import Done
from wsgi_store.upkeep.ranges import NEVER, Part, Ranges

NOTE = ".named.json"
# Any time but NEVER: the note says what was covered, not when.
COVERED = 1.0


class Coverage:
    """The ranges of primary names whose blobs have all further names, for the run that goes on."""

    def __init__(self, store: Store, marker: Marker) -> None:
        self._store = store
        self._marker = marker

    @property
    def missing(self) -> list[Part]:
        """What is still to be covered; raises StoreError."""
        return [part for part in self._read(self._store.load_note(NOTE)).parts() if part.time == NEVER]

    def cover(self, done: Done) -> None:
        """Note that batches were covered; raises StoreError."""

        def changed(data: bytes | None) -> bytes:
            ranges = self._read(data)
            for batch, report in done:
                # What could not be read is tried again by the next run.
                if batch.algorithm is self._marker.algorithm and not report.unreadable:
                    ranges.mark(batch.after, batch.upto, COVERED)
            return self._text(ranges)

        self._store.update_note(NOTE, changed)

    def forget(self) -> None:
        """Begin anew with the next run, which looks at every blob again; raises StoreError."""
        self._store.update_note(NOTE, lambda _: self._text(Ranges(self._marker.algorithm)))

    def _read(self, data: bytes | None) -> Ranges:
        try:
            note = json.loads(data or b"{}")
            if note["algorithms"] == [algorithm.value for algorithm in self._marker.algorithms]:
                return Ranges.of(self._marker.algorithm, note["parts"]) or Ranges(self._marker.algorithm)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            pass
        return Ranges(self._marker.algorithm)

    def _text(self, ranges: Ranges) -> bytes:
        algorithms = [algorithm.value for algorithm in self._marker.algorithms]
        return json.dumps({"algorithms": algorithms, "parts": ranges.noted()}).encode()
