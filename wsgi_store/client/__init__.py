"""The client: its public names."""

from wsgi_store.client.blobs import RemoteBlob, Uploaded
from wsgi_store.client.client import Client
from wsgi_store.client.download import Download
from wsgi_store.client.tree.diff import Change
from wsgi_store.client.tree.entry import Entry, Kind
from wsgi_store.client.tree.upload import UploadedTree

__all__ = ["Change", "Client", "Download", "Entry", "Kind", "RemoteBlob", "Uploaded", "UploadedTree"]
