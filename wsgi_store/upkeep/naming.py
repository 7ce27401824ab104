"""Giving the blobs of a batch the names that they lack."""

from collections.abc import Sequence
from dataclasses import dataclass

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import StoreError
from wsgi_store.store.abilities import Adopted, Hashed, Names
from wsgi_store.store.contract import Blob, Store
from wsgi_store.upkeep.report import BatchReport
from wsgi_store.upkeep.seen import Seen

READ_SIZE = 1 << 18

Read = tuple[Blob, Hashed]


@dataclass
class Naming:
    """Names blobs whose bytes were hashed by all algorithms that a store keeps."""

    store: Store
    names: Names
    algorithms: tuple[Algorithm, ...]
    """Those of the store, the primary one first."""
    seen: Seen | None = None
    """Notes the names, for a run that looks for wrong ones."""

    def name(self, algorithm: Algorithm, read: Sequence[Read], report: BatchReport) -> None:
        """Give these blobs all names; `algorithm` is that of the names of their files."""
        try:
            if algorithm is self.algorithms[0]:
                self._give(read, report)
            else:
                self._adopt(read, report)
        except StoreError as error:
            if "hash" not in error.evidence:
                report.failure = error
            elif len(read) > 1:
                # One of them has something else in the place of a name.
                for one in read:
                    self.name(algorithm, [one], report)
            else:
                report.unreadable[read[0][0].digest] = error.message
                report.blobs -= 1
                report.bytes -= read[0][0].size
            return
        if self.seen is not None:
            for blob, hashed in read:
                report.seen += self.seen.of(blob, hashed)

    def _give(self, read: Sequence[Read], report: BatchReport) -> None:
        mended: list[Digest] = []
        # pylint: disable-next=assignment-from-no-return
        others = self.names.give_names([hashed for _, hashed in read], mended)
        report.misnamed |= {name: "led to another blob, now to its own" for name in mended}
        report.named += len(others)
        report.others += len(read) - len(others)
        for _, hashed in read:
            report.ambiguous += [hashed.digests[algorithm] for algorithm in others.get(hashed.digest, ())]

    def _adopt(self, read: Sequence[Read], report: BatchReport) -> None:
        # pylint: disable-next=assignment-from-no-return
        outcomes = self.names.adopt([hashed for _, hashed in read])
        for (blob, hashed), outcome in zip(read, outcomes, strict=True):
            if outcome in (Adopted.NAMED, Adopted.JOINED):
                report.adopted += 1
                report.joined += outcome is Adopted.JOINED
            elif outcome is Adopted.HELD:
                report.others += 1
            elif outcome is Adopted.GONE:
                report.gone += 1
            elif outcome is Adopted.UNLINKABLE:
                report.unreadable[blob.digest] = "this user may not link the file (fs.protected_hardlinks)"
            else:
                report.again[blob.digest] = blob.size
            if outcome is Adopted.DAMAGED:
                report.displaced += 1
                report.corrupt.append(hashed.digests[self.algorithms[0]])


def lead_right(store: Store, name: Digest) -> bool:
    """Whether the blob to which a further name leads has that digest; raises BlobNotFound and StoreError."""
    reader = store.open(name)  # pylint: disable=assignment-from-no-return
    try:
        hashed = name.algorithm.new()
        while block := reader.read(READ_SIZE):
            hashed.update(block)
    finally:
        reader.close()
    return hashed.digest() == name.raw
