"""The client of a server; the extra `client` installs what it needs."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import fields
from functools import partial
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from wsgi_store.client.blob_client import BlobClient
from wsgi_store.client.blobs import Uploaded
from wsgi_store.client.source import Progress
from wsgi_store.client.tree.diff import Change, changes
from wsgi_store.client.tree.entry import Entry
from wsgi_store.client.tree.exclude import Excluded
from wsgi_store.client.tree.format import lines, read, write
from wsgi_store.client.tree.scan import scan
from wsgi_store.client.tree.upload import FolderUpload, UploadedTree
from wsgi_store.filesystem import Root

if TYPE_CHECKING:
    from wsgi_store.client.tree.restored import Restored, Tell


class Client(BlobClient):
    """A client of the server at a URL, which includes the prefix that the service is mounted under.

    It authenticates with `token`, else with user name and password in the URL, else with those in
    ~/.netrc ($NETRC). `timeout` is how long a connection may be idle, in seconds. The client tries
    again up to `retries` times when a connection breaks or the server answers 503; the first pause
    takes about `first_pause` seconds, later ones grow to 30, and Retry-After (RFC 9110 section
    10.2.3) is obeyed up to 120. Every request is safe to repeat. Threads may share a client;
    `connections` is how many connections it keeps open.

    A blob is given by any of its hashes, or by its URL on this server, which may carry a signed link.

    The constructor raises ConfigError. Every method raises Unreachable, UnexpectedAnswer, and the
    classes of `wsgi_store.errors` that the server reports; a method that takes a blob raises
    MalformedHash.
    """

    def put_tree(  # pylint: disable=too-many-arguments
        self,
        directory: str | os.PathLike[str],
        *,
        exclude: Iterable[str] = (),
        force: bool = False,
        jobs: int = 4,
        hashing: Progress | None = None,
        progress: Progress | None = None,
    ) -> UploadedTree:
        """Upload a folder: its files, if the server lacks them, and then a tree, the blob that describes it.

        The tree has the permissions of files and directories, the times of files, and links as they are;
        equal folders have equal trees. Owners, further attributes, hard links and the times of directories
        are not kept; pipes, sockets and devices are left out, and logged. `exclude` are patterns of names
        such as `*.pyc`, with a slash inside of paths below `directory`, with one at the end of directories.
        The other arguments are those of `put_many`.

        There is no tree if anything fails. Raises OSError with the path of what cannot be read, vanishes or
        changes again and again meanwhile, and what the server reports, of one file with `path` as evidence.
        """
        put_many = partial(self.put_many, force=force, jobs=jobs, hashing=hashing, progress=progress)
        folder = FolderUpload(put_many, self.algorithm)
        with Root(os.fspath(directory)) as top, TemporaryFile() as file:
            with closing(scan(top.fd, os.fspath(directory), Excluded(exclude))) as found:
                file.writelines(write(folder.entries(found)))
            file.seek(0)
            (sent,) = self.put_many([file], force=force)
        if isinstance(sent.outcome, Exception):
            raise sent.outcome
        blob = {field.name: getattr(sent.outcome, field.name) for field in fields(Uploaded)}
        return UploadedTree(**blob, files=folder.files, sent=folder.sent)

    def tree(self, blob: str) -> Iterator[Entry]:
        """Yield what a tree says about each file, directory and link of its folder, in its order.

        Before the last ones it has compared all bytes with the hash. Raises BlobNotFound, DigestMismatch,
        and MalformedTree if the blob is no tree.
        """
        with self.open(blob) as download, io.BufferedReader(download) as file:
            yield from read(lines(file))

    def diff(self, before: str, after: str) -> Iterator[Change]:
        """Yield the differences of two trees, in their order; raises what `tree` raises."""
        return changes(self.tree(before), self.tree(after))

    def get_tree(
        self,
        tree: str,
        directory: str | os.PathLike[str],
        *,
        outward_links: bool = False,
        jobs: int = 4,
        progress: "Tell | None" = None,
    ) -> "Iterator[Restored]":
        """Restore the folder of a tree to a directory, and yield what became of each entry.

        Equal files stay, other files and links are replaced, the rest of the directory stays. Nothing
        outside changes; a link that leads out has the error OutwardLink, unless `outward_links` is set.
        What is below a directory with an error is left out. The next call continues an interrupted one.
        `progress` is called, from any thread, with the bytes restored so far and those of all files.
        Raises BlobNotFound, MalformedTree, OSError if the disk is full, and BlockingIOError if another
        process restores the tree there.
        """
        # pylint: disable=import-outside-toplevel  # slow to import
        from wsgi_store.client.tree.fetch import Blobs
        from wsgi_store.client.tree.restore import restore

        blobs, to = Blobs(self._transport, self._kept), os.fspath(directory)
        yield from restore(
            blobs, *self._named(tree), to, outward_links=outward_links, jobs=jobs, progress=progress
        )
