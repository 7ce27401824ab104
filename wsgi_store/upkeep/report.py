"""What a run over the blobs of a store reports."""

import enum
from dataclasses import dataclass, field, replace
from typing import Self

from wsgi_store.digest import Digest
from wsgi_store.errors import StoreError


class Result(enum.Enum):
    """What a run says about the blobs that it set out to read."""

    CLEAN = "clean"
    """All were read and have their digests."""
    CORRUPT = "corrupt"
    """Some do not have their digests, whatever else happened."""
    INCOMPLETE = "incomplete"
    """Some could not be read, or the run ended early."""


@dataclass
class BatchReport:
    """The outcome of reading a batch of blobs."""

    blobs: int = 0
    bytes: int = 0
    gone: int = 0
    corrupt: list[Digest] = field(default_factory=list)
    unmoved: dict[Digest, str] = field(default_factory=dict)
    unreadable: dict[Digest, str] = field(default_factory=dict)
    named: int = 0
    adopted: int = 0
    joined: int = 0
    """Those in `adopted` that were under both names."""
    others: int = 0
    displaced: int = 0
    """Those in `corrupt` that had the primary name of a file under a further name."""
    again: dict[Digest, int] = field(default_factory=dict)
    """Files that have to be read again, and their sizes: they changed, or their primary names were taken."""
    ambiguous: list[Digest] = field(default_factory=list)
    misnamed: dict[Digest, str] = field(default_factory=dict)
    seen: bytearray = field(default_factory=bytearray)
    """Notes on the further names of the blobs that were read, for `seen.Sums`."""
    failure: StoreError | None = None
    """Why they could not be named."""
    reported: int = 0
    """The bytes that were reported while they were read."""
    reached: int = 0
    """How many blobs were tried, from the first on: fewer than all if the run ended meanwhile."""


@dataclass
class Report:
    """The state of a run at one moment; sizes in bytes, times in seconds since the epoch.

    `total_blobs` and `total_bytes` are what the run found at its start, `checked_blobs` and
    `checked_bytes` what of it was read to the end. A blob that was removed before its turn counts only as
    `gone`, which is no failure.
    """

    total_blobs: int = 0
    total_bytes: int = 0
    checked_blobs: int = 0
    checked_bytes: int = 0
    reading_bytes: int = 0
    """Bytes read of blobs that are not yet in `checked_bytes`."""
    counted: bool = False
    """Whether the totals and `oldest` cover the whole store."""
    gone: int = 0
    corrupt: list[Digest] = field(default_factory=list)
    """Blobs whose bytes have another digest; those not in `unmoved` are in quarantine."""
    unmoved: dict[Digest, str] = field(default_factory=dict)
    """Corrupt blobs that could not be moved to quarantine, and why."""
    unreadable: dict[Digest, str] = field(default_factory=dict)
    """Blobs that could not be read to the end, and why; they stay in place."""
    oldest: float | None = None
    """When the blob that has gone longest without verification was last verified or added.

    None if there are no blobs. In an incomplete run it is the time before the run, or earlier.
    """
    named: int = 0
    """Blobs that were looked at for their further names, and have them."""
    adopted: int = 0
    """Files under a further name that got their primary name."""
    others: int = 0
    """Blobs that got these names meanwhile from another process, or were renewed or removed by one."""
    ambiguous: list[Digest] = field(default_factory=list)
    """Further names that belong to more than one blob, and stay with the first."""
    misnamed: dict[Digest, str] = field(default_factory=dict)
    """Further names that led to a blob without that digest, and what became of them."""
    failure: StoreError | None = None
    """Why blobs could not be named."""
    complete: bool = False
    unnoted: str | None = None
    """Why the progress could not be saved, so that the next run does not continue from here."""

    @property
    def result(self) -> Result:
        """What the run can say so far."""
        if self.corrupt or self.misnamed:
            return Result.CORRUPT
        if self.unreadable or self.failure or not self.complete:
            return Result.INCOMPLETE
        return Result.CLEAN

    def add(self, batch: BatchReport) -> None:
        """Add the report on a batch."""
        self.checked_blobs += batch.blobs
        self.checked_bytes += batch.bytes
        self.gone += batch.gone
        self.corrupt += batch.corrupt
        self.unmoved |= batch.unmoved
        self.unreadable |= batch.unreadable
        self.named += batch.named
        self.adopted += batch.adopted
        self.others += batch.others
        self.ambiguous += batch.ambiguous
        self.misnamed |= batch.misnamed
        self.failure = self.failure or batch.failure

    def snapshot(self) -> Self:
        """Return a copy that does not change any more."""
        return replace(
            self,
            corrupt=[*self.corrupt],
            unmoved={**self.unmoved},
            unreadable={**self.unreadable},
            ambiguous=[*self.ambiguous],
            misnamed={**self.misnamed},
        )
