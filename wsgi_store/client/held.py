"""What a server has of the files that are to be uploaded."""

from collections.abc import Collection, Mapping, Sequence

from wsgi_store.client.kept import Kept
from wsgi_store.client.missing import ask
from wsgi_store.client.transport import Transport
from wsgi_store.digest import Algorithm
from wsgi_store.errors import (
    BadRequest,
    Denied,
    MethodNotAllowed,
    NotFound,
    Unauthenticated,
    Unsupported,
    UnsupportedMediaType,
)

# How a server or a proxy answers a request that it does not know.
UNKNOWN = (BadRequest, MethodNotAllowed, NotFound, Unsupported, UnsupportedMediaType)


class Held:
    """Finds out which files a server has, for as long as it answers that; threads may share it.

    With `renew` it also takes care that no `collect` removes them as old.
    """

    def __init__(self, transport: Transport, kept: Kept, *, renew: bool) -> None:
        self._transport = transport
        self._kept = kept
        self._renew = renew
        self._answers = self._answers_many = True

    def lacking(self, blobs: Mapping[str, int], *, singly: bool) -> Collection[str]:
        """Return the hashes of those that the server lacks, or does not tell about.

        With `singly` a server that does not know the question is asked for each blob.
        """
        if self._answers and self._answers_many:
            try:
                return set(ask(self._transport, blobs, renew=self._renew))
            except (Denied, Unauthenticated):
                self._answers = False
            except UNKNOWN as error:
                # A server also refuses hashes by an algorithm that it no longer keeps.
                if isinstance(error, BadRequest) and self._is_migrated():
                    return blobs.keys()
                self._answers_many = False
        if self._answers and singly:
            try:
                return {hash_ for hash_, size in blobs.items() if not self._has(hash_, size)}
            except (Denied, Unauthenticated, *UNKNOWN):
                self._answers = False
        return blobs.keys()

    def _is_migrated(self) -> bool:
        known = self._kept.algorithms()
        self._kept.forget()
        return known != self._kept.algorithms()

    def _has(self, hash_: str, size: int) -> bool:
        try:
            return self._transport.ask("HEAD", hash_).get("content-length") == str(size)
        except NotFound:  # an answer to HEAD has no body, so no code
            return False


def chosen(algorithms: Sequence[Algorithm]) -> tuple[Algorithm, Algorithm | None]:
    """Return the primary algorithm, and one by which equal hashes prove equal bytes, if there is one."""
    return algorithms[0], next((one for one in algorithms if one.collision_resistant), None)
