"""The client: its public names."""

from wsgi_store.client.blobs import RemoteBlob, Uploaded
from wsgi_store.client.client import Client
from wsgi_store.client.download import Download

__all__ = ["Client", "Download", "RemoteBlob", "Uploaded"]
