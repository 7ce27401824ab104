"""Checking the blobs of a batch: hash each, move damaged ones to quarantine, name the others."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, StoreError, StoreUnavailable
from wsgi_store.store.abilities import Hashed, LocalPaths, Pieces
from wsgi_store.store.contract import Blob, BlobReader, Store
from wsgi_store.store.pieces import LENGTH, PieceHasher
from wsgi_store.upkeep.naming import Naming
from wsgi_store.upkeep.plan import Batch
from wsgi_store.upkeep.report import BatchReport
from wsgi_store.upkeep.workers import Reading, Stopped


class Named(Exception):
    """A file under a further name got its primary name meanwhile."""


@dataclass
class Check:
    """Hashes blobs by the algorithms of all their names, and moves damaged ones to quarantine."""

    store: Store
    naming: Naming | None = None
    """Gives the others the names that they lack; None if a blob has only one name."""
    pieces: Pieces | None = None
    """Keeps the hashes of the pieces of the others; None if these are not asked for."""

    def do(self, batch: Batch, reading: Reading) -> BatchReport:
        """Check the blobs of a batch, until stopped."""
        report = BatchReport()
        kept = () if self.naming is None else self.naming.algorithms
        algorithms = tuple(dict.fromkeys((batch.algorithm, *kept)))
        good: list[tuple[Blob, Hashed]] = []
        with self._opening() as open_:
            for raw in batch.raws:
                digest = Digest(batch.algorithm, raw)
                try:
                    blob, hashed, pieces = _hash(open_(digest), algorithms, reading, self.pieces)
                    if hashed.digests[digest.algorithm] == digest:
                        good.append((blob, hashed))
                        if self.pieces is not None and pieces is not None:
                            self.pieces.keep_pieces(blob, hashed.stamp, pieces.finish())
                    else:
                        self._quarantine(blob, report)
                except Stopped:
                    break  # the report still names what was moved
                except Named:
                    report.others += 1
                except BlobNotFound:
                    report.gone += 1
                except StoreError as error:
                    report.unreadable[digest] = error.message
                else:
                    report.blobs += 1
                    report.bytes += blob.size
                report.reached += 1
        if self.naming is not None and good:
            self.naming.name(batch.algorithm, good, report)
        return report

    def _opening(self) -> AbstractContextManager[Callable[[Digest], BlobReader]]:
        return self.store.nearby() if isinstance(self.store, LocalPaths) else nullcontext(self.store.open)

    def _quarantine(self, blob: Blob, report: BatchReport) -> None:
        digest = blob.digest
        try:
            moved = self.store.quarantine(digest)  # pylint: disable=assignment-from-no-return
        except BlobNotFound:
            raise
        except StoreError as error:
            report.unmoved[digest] = error.message
        else:
            if not moved:
                if self.store.stat(digest).modified == blob.modified:
                    raise StoreUnavailable("two reads returned different bytes")
                return  # an upload healed it meanwhile
        report.corrupt.append(digest)


def _hash(
    reader: BlobReader, algorithms: Sequence[Algorithm], reading: Reading, keeping: Pieces | None
) -> tuple[Blob, Hashed, PieceHasher | None]:
    blob, pieces = reader.blob, None
    try:
        # The plan names files, and this has become a link to one.
        if blob.primary is not None:
            raise Named
        if keeping is not None and blob.size > LENGTH and keeping.kept_pieces(blob) is None:
            pieces = PieceHasher(blob.size)
        digests = reading.hash(reader, algorithms, pieces)
    finally:
        reader.close()
    return blob, Hashed(blob.digest, reader.stamp, digests), pieces
