"""Adding several files at once, each in requests of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import StoreError
from wsgi_store.store.contract import Publication
from wsgi_store.store.staged import StagedFile

# Files that are added at once. They wait for the engine more than they compute.
AT_ONCE = 16


def add_all(
    add: Callable[[StagedFile], Publication], files: Sequence[StagedFile], algorithm: Algorithm
) -> list[Publication | StoreError]:
    """Call `add` for each file, in several threads; returns the outcome of each."""

    def outcome(number: int) -> Publication | StoreError:
        try:
            return add(files[number])
        except StoreError as error:
            return error

    # Files equal to an earlier one wait for their turn, so that the earlier one is created.
    turns: tuple[list[int], list[int]] = [], []
    seen: set[Digest | None] = set()
    for number, one in enumerate(files):
        digest = one.digests.get(algorithm)
        turns[digest in seen].append(number)
        seen.add(digest)
    outcomes: dict[int, Publication | StoreError] = {}
    with ThreadPoolExecutor(AT_ONCE, "wsgi_store-add") as pool:
        for turn in turns:
            outcomes |= zip(turn, pool.map(outcome, turn), strict=True)
    return [outcomes[number] for number in range(len(files))]
