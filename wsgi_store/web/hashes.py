"""The hashes in requests: which digest each one is, and how often each algorithm is asked for."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import quote

from wsgi_store.digest import Algorithm, Digest, parse_any
from wsgi_store.errors import BlobNotFound
from wsgi_store.logs import logger
from wsgi_store.store.contract import Store
from wsgi_store.web import conditional

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Entity tags that are looked up for one request: a field has room for hundreds.
MAX_LOOK_UPS = 8
# Seconds between two lines of one process about the algorithms.
PAUSE = 3600.0
# Users that are counted: a host application may have any number of them.
MAX_USERS = 100
LENGTHS = frozenset(2 * algorithm.size for algorithm in Algorithm)


class Hashes:
    """Reads the hashes that the clients of one store send.

    The store may get other algorithms at any time, so it is asked again before a hash is refused. If it has
    further names, the log tells every hour how often each algorithm was asked for. `count` is called with
    an algorithm and the number of hashes by it.
    """

    def __init__(self, store: Store, count: Callable[[str, int], None] | None = None) -> None:
        self._store = store
        self._count = count
        self._lock = Lock()
        self._asked: Counter[tuple[Algorithm, str | None]] = Counter()
        self._again: float | None = None

    def digest(self, hash_: str, user: str | None = None) -> Digest:
        """Return the digest that `user` asks for; raises ValueError if no blob of the store can have it."""
        try:
            digest = parse_any(self._store.algorithms, hash_)
        except ValueError:
            if len(hash_) not in LENGTHS:
                raise
            digest = parse_any(self._store.refresh(), hash_)
        self._note(digest.algorithm, user)
        return digest

    def digests(self, hashes: Iterable[str], user: str | None = None) -> list[Digest]:
        """Return the digest of each hash as `digest` does, in less time; raises ValueError for a bad one."""
        algorithms = self._store.algorithms
        found = []
        for hash_ in hashes:
            try:
                found.append(parse_any(algorithms, hash_))
            except ValueError:
                if len(hash_) not in LENGTHS:
                    raise
                algorithms = self._store.refresh()
                found.append(parse_any(algorithms, hash_))
        for algorithm, number in Counter(digest.algorithm for digest in found).items():
            self._note(algorithm, user, number)
        return found

    def others(
        self, environ: "WSGIEnvironment", names: Collection[Digest], user: str | None
    ) -> conditional.Others:
        """Look up the entity tags in a request that may be further names of the blob with these `names`.

        Raises StoreUnavailable.
        """
        tags = list(islice(conditional.unknown_tags(environ, names), MAX_LOOK_UPS))
        if not tags:
            return conditional.NO_OTHERS
        algorithms = self._store.algorithms
        if any(len(tag) != 2 * algorithm.size for tag in tags for algorithm in algorithms):
            algorithms = self._store.refresh()
        found = {}
        for tag in tags:
            with suppress(ValueError, BlobNotFound):
                digest = parse_any(algorithms, tag)
                found[tag] = self._store.stat(digest).names
                self._note(digest.algorithm, user)
        return found

    def _note(self, algorithm: Algorithm, user: str | None, number: int = 1) -> None:
        if self._count is not None:
            self._count(algorithm.value, number)
        if len(self._store.algorithms) == 1:
            return
        now = time.monotonic()
        with self._lock:
            if self._again is None:
                self._again = now + PAUSE
            if (algorithm, user) not in self._asked and len(self._asked) >= MAX_USERS:
                user = None
            self._asked[algorithm, user] += number
            if now < self._again:
                return
            self._again = now + PAUSE
        self.tell()

    def tell(self) -> None:
        """Log how often each algorithm was asked for since the last such line."""
        with self._lock:
            asked, self._asked = self._asked, Counter()
        if not asked:
            return
        primary, *further = self._store.algorithms
        totals: Counter[Algorithm] = Counter({primary: 0, **dict.fromkeys(further, 0)})
        users: dict[Algorithm, list[str]] = {}
        for (algorithm, user), number in asked.most_common():
            totals[algorithm] += number
            # Quoted: a host application chooses the name, which must not look like another field.
            users.setdefault(algorithm, []).append(f"{quote(user or '-', safe=':@')} {number}")
        told = ", ".join(f"{algorithm.value} {number}" for algorithm, number in totals.items())
        logger.info("Blobs were asked for by hashes of {}", told)
        for algorithm in further:
            if algorithm in users:
                logger.debug("Who asked by hashes of {}: {}", algorithm.value, ", ".join(users[algorithm]))
