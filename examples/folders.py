"""A program keeps a folder in a store, and tells what changed since the last time."""

import sys

from wsgi_store import Client
from wsgi_store.errors import WSGIStoreError


def keep(url: str, token: str | None, directory: str, before: str | None) -> str:
    """Upload a folder, print what is in it, or what differs from an earlier tree; returns its hash."""
    with Client(url, token) as client:
        tree = client.put_tree(directory, exclude=["__pycache__/", "*.tmp"])
        print(tree.hash, tree.files, tree.sent)
        if before is None:
            for entry in client.tree(tree.hash):
                print(entry.kind.value, entry.path)
        else:
            for change in client.diff(before, tree.hash):
                print(change.path, *change.what)
    return tree.hash


if __name__ == "__main__":
    try:
        keep(sys.argv[1], None, sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
    except (WSGIStoreError, OSError) as failure:
        sys.exit(f"it failed: {failure}")
