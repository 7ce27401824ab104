"""A program keeps a file in a store and takes it out again."""

import json
import sys

from wsgi_store import Client
from wsgi_store.errors import BlobNotFound, WSGIStoreError


def there_and_back(url: str, token: str | None, path: str) -> str:
    """Upload a JSON file, read it, download a copy, remove it; returns its hash."""
    with Client(url, token) as client:
        blob = client.put(path)
        print(blob.hash, blob.size, blob.created)
        with client.open(blob.hash) as download:
            print(json.load(download))
        client.get(blob.hash, "copy.json")
        for listed in client.list():
            print(listed.hash, listed.url)
        client.delete(blob.hash)
        try:
            client.stat(blob.hash)
        except BlobNotFound as error:
            print(error.evidence)
    return blob.hash


if __name__ == "__main__":
    try:
        there_and_back(sys.argv[1], None, sys.argv[2])
    except WSGIStoreError as failure:
        sys.exit(f"it failed: {failure}")
