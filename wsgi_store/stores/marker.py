"""The small file that says what a directory holds: its algorithm and its layout."""

import json
import os
import re
from contextlib import suppress
from pathlib import Path

from wsgi_store.digest import Algorithm
from wsgi_store.errors import WrongStore
from wsgi_store.stores import StagedFile

NAME = "store.json"
LAYOUT = "ab/abcdef"


def check(root: str, algorithm: Algorithm) -> bool:
    """Whether there is a marker; raises WrongStore when it is that of another store, and OSError."""
    try:
        text = Path(root, NAME).read_bytes()
    except FileNotFoundError:
        return False
    try:
        marker = json.loads(text)
        held, layout = Algorithm(marker["algorithm"]), marker["layout"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise WrongStore(f"{root}/{NAME} is not the marker of a store known here") from None
    if held is not algorithm:
        raise WrongStore(
            f"{root} holds {held.value} digests, not {algorithm.value}: "
            f"set WSGI_STORE_HASH={held.value}, or WSGI_STORE_ROOT to another directory"
        )
    if layout != LAYOUT:
        raise WrongStore(f"{root} has the layout {layout!r}, which this version cannot read")
    return True


def claim(root: str, staging: str, algorithm: Algorithm) -> None:
    """Write the marker, and make the directories, unless another process does first.

    Raises WrongStore when the files there are not named by this algorithm, and OSError.
    """
    _check_unmarked(Path(root), algorithm)  # before anything is made in a directory not ours
    made = [str(path) for path in (Path(root), *Path(root).parents) if not path.is_dir()]
    os.makedirs(staging, exist_ok=True)
    # Written aside and linked: two servers starting at once agree on one marker.
    with StagedFile.named(staging) as draft:
        os.write(draft.fd, f"{json.dumps({'algorithm': algorithm.value, 'layout': LAYOUT})}\n".encode())
        os.fchmod(draft.fd, 0o644)
        os.fsync(draft.fd)
        # First, for who finds the marker takes the way to it for safe.
        for path in made:
            sync_directory(os.path.dirname(path))
        with suppress(FileExistsError):
            os.link(str(draft.path), os.path.join(root, NAME))
    check(root, algorithm)
    sync_directory(root)


def sync_directory(path: str) -> None:
    """Make the names in a directory survive a power failure (fsync(2)); raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _check_unmarked(root: Path, algorithm: Algorithm) -> None:
    """Refuse files that a store of another algorithm left without its marker."""
    for shard in sorted(root.glob("[0-9a-f][0-9a-f]/")):
        blob = re.compile(shard.name + "[0-9a-f]{30,}")
        name = next((name for name in sorted(os.listdir(shard)) if blob.fullmatch(name)), None)
        if name is not None and len(name) != 2 * algorithm.size:
            raise WrongStore(
                f"{root} has no {NAME} and holds {shard.name}/{name}, "
                f"which is not a {algorithm.value} digest: set WSGI_STORE_HASH "
                "to the algorithm of its files, or WSGI_STORE_ROOT to another directory"
            )
