"""A program keeps files in a store and reads them without HTTP, beside a server of that store or alone.

python examples/in_process.py ./store README.md
"""

import sys
from contextlib import closing
from pathlib import Path

from wsgi_store import Config, create_app, errors


def keep(root: str, path: Path) -> str:
    """Add a file to the store at `root` and read it again; returns its hash."""
    service = create_app(Config(root=root))
    with path.open("rb") as file:
        receipt = service.receive(file)
    print(receipt.digest.hex, receipt.size, receipt.created)
    with closing(service.store.open(receipt.digest)) as reader:
        for chunk in reader:
            print(len(chunk), "bytes")
    for blob in service.store.iterate():
        print(blob.digest.hex, blob.size)
    return receipt.digest.hex


def drop(root: str, hash_: str) -> bool:
    """Remove a blob; False when there was none."""
    store = create_app(Config(root=root)).store
    try:
        store.remove(store.algorithm.parse(hash_))
    except errors.BlobNotFound:
        return False
    return True


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]))
