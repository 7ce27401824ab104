"""Adding several files at once, each in requests of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from wsgi_store.digest import Digest
from wsgi_store.errors import StoreError
from wsgi_store.store.contract import Publication
from wsgi_store.store.staged import StagedFile

# Files that are added at once. They wait for the engine more than they compute.
AT_ONCE = 16


def add_all(
    add: Callable[[StagedFile], Publication], files: Sequence[StagedFile]
) -> list[Publication | StoreError]:
    """Call `add` for each file, in several threads; returns the outcome of each."""

    def outcome(number: int) -> Publication | StoreError:
        try:
            return add(files[number])
        except StoreError as error:
            return error

    # A file waits for the earlier ones with which it shares a name: they are created, and get the name.
    turns: dict[int, list[int]] = {}
    last: dict[Digest, int] = {}
    for number, one in enumerate(files):
        turn = 1 + max((last.get(digest, 0) for digest in one.digests.values()), default=0)
        turns.setdefault(turn, []).append(number)
        last |= dict.fromkeys(one.digests.values(), turn)
    outcomes: dict[int, Publication | StoreError] = {}
    with ThreadPoolExecutor(AT_ONCE, "wsgi_store-add") as pool:
        for _, numbers in sorted(turns.items()):
            outcomes |= zip(numbers, pool.map(outcome, numbers), strict=True)
    return [outcomes[number] for number in range(len(files))]
