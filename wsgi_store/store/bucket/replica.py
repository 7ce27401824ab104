"""A store in a bucket that is read and never written, with keys that may do no more."""

from typing import NoReturn

from wsgi_store.errors import WrongStore
from wsgi_store.store.bucket.client import Client
from wsgi_store.store.bucket.marked import MarkedBucket
from wsgi_store.store.bucket.store import ObjectStore
from wsgi_store.store.read_only import Replica


class _ReadBucket(MarkedBucket):
    """A bucket that is a store already."""

    def _make_marker(self, client: Client) -> NoReturn:
        raise WrongStore(f"there is no store at {self._url}, and WSGI_STORE_READ_ONLY lets none be made")


class ObjectReplica(Replica, ObjectStore):
    """A store in a bucket in which nothing is made or changed, nor on the local disk."""

    bucket_kind = _ReadBucket

    def check(self) -> None:
        """Raise StoreUnavailable unless the store is there and can be read; raises WrongStore."""
        self._bucket.verify()
        self._bucket.require_marker()

    def _prepare(self) -> None:
        pass
