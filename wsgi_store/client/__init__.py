"""The client: its public names."""

from wsgi_store.client.client import Client, RemoteBlob, Uploaded
from wsgi_store.client.download import Download

__all__ = ["Client", "Download", "RemoteBlob", "Uploaded"]
