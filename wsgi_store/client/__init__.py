"""Talking to a server from Python."""

from wsgi_store.client.client import Client, RemoteBlob, Uploaded
from wsgi_store.client.download import Download

__all__ = ["Client", "Download", "RemoteBlob", "Uploaded"]
