"""The names of a store in a bucket as a whole: what migrations, verification and collection need."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import ne

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.store.abilities import Adopted, Hashed
from wsgi_store.store.bucket import listing
from wsgi_store.store.bucket.adoption import Adoption, give
from wsgi_store.store.bucket.keys import key_of
from wsgi_store.store.bucket.marked import MarkedBucket
from wsgi_store.store.bucket.names import Lead, follow, forget, keep
from wsgi_store.store.bucket.places import find, has_name
from wsgi_store.store.bucket.version import look
from wsgi_store.store.contract import Blob
from wsgi_store.store.marker import Marker


class NameKeeping:
    """The ability Names of a store in a bucket."""

    _bucket: MarkedBucket
    _adoption: Adoption
    quarantine: Callable[[Digest], bool]

    def marker(self) -> Marker:
        """Read by which algorithms the store names its blobs; raises StoreUnavailable."""
        return self._bucket.refresh()

    def change_marker(self, change: Callable[[Marker], Marker]) -> Marker:
        """Replace the marker; returns the new one. A write under way notices before it is acknowledged."""
        self._bucket.require_writable()
        return self._bucket.change(change)

    def strays(self, algorithm: Algorithm, after: Digest | None = None) -> Iterator[Blob]:
        """Yield the blobs that lie under a name by `algorithm`, a further one, in ascending order."""
        self._bucket.require()
        return listing.strays(self._bucket, algorithm, after)

    def adopt(self, found: Sequence[Hashed]) -> list[Adopted]:
        """Give strays their primary names; returns what became of each."""
        self._bucket.require_writable()
        self._bucket.refresh()
        outcomes = []
        for one, outcome in listing.at_once(iter(found), self._adoption.adopt):
            if outcome is Adopted.DAMAGED and not self._set_aside(one.digests[self._bucket.last.algorithm]):
                outcome = Adopted.CHANGED
            outcomes.append(outcome)
        return outcomes

    def give_names(
        self, found: Iterable[Hashed], mended: list[Digest] | None = None
    ) -> dict[Digest, list[Algorithm]]:
        """Give blobs all further names that they lack; returns by which a name is another blob's."""
        self._bucket.require_writable()
        self._bucket.refresh()
        given = listing.at_once(iter(found), partial(self._give, mended))
        return {one.digest: ambiguous for one, ambiguous in given if ambiguous is not None}

    def links(self, algorithm: Algorithm, after: Digest | None = None) -> Iterator[tuple[Digest, Digest]]:
        """Yield the further names by `algorithm`, each with the name it leads to."""
        self._bucket.require()
        return listing.links(self._bucket, algorithm, after)

    def remove_link(self, name: Digest, target: Digest) -> bool:
        """Remove a further name if it still leads to `target`; returns whether it was removed."""
        self._bucket.require_writable()
        return forget(self._bucket, name, target, lambda: True)

    def sweep_names(self, *, remove: bool) -> Iterator[str]:
        """Yield the further names that lead nowhere, and those by algorithms that are not kept."""
        self._bucket.require()
        leads = listing.at_once(listing.names(self._bucket), partial(follow, self._bucket))
        for name, lead in leads:
            if lead is None or not self._leads_nowhere(name, lead):
                continue
            if remove:
                # Only now: an unfit engine may hold a store from which nothing is to be removed.
                self._bucket.require_writable()
            if not remove or forget(self._bucket, name, lead.target, partial(self._still, name, lead)):
                yield name.hex

    def name_sizes(self) -> Iterator[int]:
        """Yield the bytes of the objects that hold further names."""
        self._bucket.require()
        return listing.name_sizes(self._bucket)

    def require_room(self, names: int) -> None:
        """Do nothing: a bucket does not fill up."""

    def settle_names(self) -> Iterator[Digest]:
        """Make names that lead to an old name lead to the primary one instead; yields each."""
        marker = self.marker()
        for algorithm in marker.names:
            for name, target in self.links(algorithm):
                if target.algorithm is marker.algorithm:
                    continue
                try:
                    _, at = find(self._bucket, target)
                except BlobNotFound:
                    continue
                # Unless it leads elsewhere by now.
                if at.algorithm is marker.algorithm and keep(self._bucket, name, at, partial(ne, target)):
                    yield name

    def _set_aside(self, primary: Digest) -> bool:
        """Move a damaged blob to quarantine; False if it is gone, or a different file with this digest."""
        try:
            return self.quarantine(primary)
        except BlobNotFound:
            return False

    def _give(self, mended: list[Digest] | None, one: Hashed) -> list[Algorithm] | None:
        if look(self._bucket, key_of(one.digest)) != one.stamp or not all(
            algorithm in one.digests for algorithm in self._bucket.last.names
        ):
            return None  # removed or replaced since it was read
        return give(self._bucket, one, one.digest, mended)

    def _leads_nowhere(self, name: Digest, lead: Lead) -> bool:
        """Whether a name leads to no blob, or is by an algorithm that is not kept."""
        if lead.target is None or name.algorithm not in self._bucket.last.names:
            return True
        try:
            there, _ = find(self._bucket, lead.target)
        except BlobNotFound:
            return True
        return not has_name(there.attributes, name)

    def _still(self, name: Digest, lead: Lead) -> bool:
        self._bucket.refresh()
        return self._leads_nowhere(name, lead)
