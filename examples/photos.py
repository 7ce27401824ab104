"""A program uploads the photos below a directory, many by one request."""

import sys
from pathlib import Path

from wsgi_store import Client
from wsgi_store.errors import WSGIStoreError


def upload(url: str, token: str | None, directory: str) -> None:
    """Upload photos; print those that are new to the store, and those that could not be uploaded."""
    with Client(url, token) as client:
        for sent in client.put_many(Path(directory).glob("**/*.jpg")):
            if isinstance(sent.outcome, Exception):
                print(sent.source, "failed:", sent.outcome)
            elif sent.outcome.created:
                print(sent.source, sent.outcome.hash)


if __name__ == "__main__":
    try:
        upload(sys.argv[1], None, sys.argv[2])
    except WSGIStoreError as failure:
        sys.exit(f"it failed: {failure}")
