"""What a run of verify reports."""

import enum
from dataclasses import dataclass, field, replace

from wsgi_store.digest import Digest
from wsgi_store.upkeep.check import BatchReport


class Result(enum.Enum):
    """What a run of `verify` says about the blobs that it set out to check."""

    CLEAN = "clean"
    """All were read and have their digests."""
    CORRUPT = "corrupt"
    """Some do not have their digests, whatever else happened."""
    INCOMPLETE = "incomplete"
    """Some could not be read, or the run ended early."""


@dataclass
class Report:
    """The state of a run at one moment; sizes in bytes, times in seconds since the epoch.

    `total_blobs` and `total_bytes` are what the store held at the start, `checked_blobs` and
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
    complete: bool = False
    unnoted: str | None = None
    """Why the ledger could not be saved, so that the next run does not continue from here."""

    @property
    def result(self) -> Result:
        """What the run can say so far."""
        if self.corrupt:
            return Result.CORRUPT
        return Result.INCOMPLETE if self.unreadable or not self.complete else Result.CLEAN

    def add(self, batch: BatchReport) -> None:
        """Add the report on a batch."""
        self.checked_blobs += batch.blobs
        self.checked_bytes += batch.bytes
        self.gone += batch.gone
        self.corrupt += batch.corrupt
        self.unmoved |= batch.unmoved
        self.unreadable |= batch.unreadable

    def snapshot(self) -> "Report":
        """Return a copy that does not change any more."""
        return replace(
            self, corrupt=[*self.corrupt], unmoved={**self.unmoved}, unreadable={**self.unreadable}
        )
