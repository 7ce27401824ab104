"""Checking the blobs of a batch: hash each, move damaged ones to quarantine, name the others."""

from dataclasses import dataclass

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, StoreError, StoreUnavailable
from wsgi_store.store.abilities import Hashed
from wsgi_store.store.contract import Blob, Store
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

    def do(self, batch: Batch, reading: Reading) -> BatchReport:
        """Check the blobs of a batch, until stopped."""
        report = BatchReport()
        algorithms = {batch.algorithm, *(self.naming.algorithms if self.naming else ())}
        good: list[tuple[Blob, Hashed]] = []
        for raw in batch.raws:
            digest = Digest(batch.algorithm, raw)
            try:
                blob, hashed = self._hash(digest, algorithms, reading)
                if hashed.digests[digest.algorithm] == digest:
                    good.append((blob, hashed))
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

    def _hash(self, digest: Digest, algorithms: set[Algorithm], reading: Reading) -> tuple[Blob, Hashed]:
        reader = self.store.open(digest)  # pylint: disable=assignment-from-no-return
        hashes = {algorithm: algorithm.new() for algorithm in algorithms}
        try:
            # The plan names files, and this has become a link to one.
            if reader.blob.primary is not None:
                raise Named
            for block in reading.of(reader):
                for hashed in hashes.values():
                    hashed.update(block)
            stamp = None if self.naming is None else reader.stamp
        finally:
            reader.close()
        digests = {algorithm: Digest(algorithm, hashed.digest()) for algorithm, hashed in hashes.items()}
        return reader.blob, Hashed(digest, stamp, digests)

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
