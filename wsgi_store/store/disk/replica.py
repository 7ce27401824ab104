"""A store in a directory that is only read, on a read-only disk or in a copy kept by others."""

from wsgi_store.errors import WrongStore
from wsgi_store.store.disk import marker as markers
from wsgi_store.store.disk.capabilities import require_directories
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.marker import Marker, Wanted
from wsgi_store.store.read_only import Replica


class LocalReplica(Replica, LocalStore):
    """A store in a directory in which nothing is created or changed."""

    def check(self) -> None:
        """Raise StoreUnavailable unless the store exists and can be read; raises WrongStore."""
        self._require_store()

    def _prepare(self, wanted: Wanted) -> Marker:
        marker = markers.check(self.root, wanted)
        if marker is None:
            raise WrongStore(
                f"there is no store at {self.root}, and WSGI_STORE_READ_ONLY prevents creating one"
            )
        require_directories(self.root)
        return marker
