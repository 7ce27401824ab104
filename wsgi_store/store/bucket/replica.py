"""A store in a bucket that is only read, perhaps with keys that may not write."""

from typing import NoReturn

from wsgi_store.errors import WrongStore
from wsgi_store.store.bucket.client import Client
from wsgi_store.store.bucket.marked import MarkedBucket
from wsgi_store.store.bucket.store import ObjectStore
from wsgi_store.store.read_only import Replica


class _ReadBucket(MarkedBucket):
    """A bucket whose marker is never written."""

    def _make_marker(self, client: Client) -> NoReturn:
        raise WrongStore(f"there is no store at {self._url}, and WSGI_STORE_READ_ONLY prevents creating one")


class ObjectReplica(Replica, ObjectStore):
    """A store in a bucket for which nothing is created or changed, not even on the local disk."""

    bucket_kind = _ReadBucket

    def check(self) -> None:
        """Raise StoreUnavailable unless the store exists and can be read; raises WrongStore."""
        self._bucket.verify()
        self._bucket.refresh()

    def _prepare(self) -> None:
        pass
