"""Publishing a staged file: its further names first, its primary name last."""

import errno
import fcntl
from contextlib import suppress

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, DigestCollision, StoreUnavailable
from wsgi_store.filesystem import touch
from wsgi_store.store.contract import Added, Publication
from wsgi_store.store.disk.names import stat_file
from wsgi_store.store.disk.naming import Given, give
from wsgi_store.store.disk.tree import Tree, locked_shards
from wsgi_store.store.marker import Marker
from wsgi_store.store.staged import StagedFile

# Rounds, each of which a concurrent removal can spoil.
ROUNDS = 100


def publish(tree: Tree, staged: StagedFile, marker: Marker, under: Digest | None) -> Publication:
    """Publish a staged file as Store.add does; the caller keeps the marker as it is. Raises OSError."""
    touch(staged.fd)  # its last byte may have been written long ago
    for _ in range(ROUNDS):
        try:
            return _publish(tree, staged, marker, under)
        except FileNotFoundError:
            tree.forget_shards()  # perhaps one was removed
    raise StoreUnavailable("the blob or its directory kept being removed while the blob was added")


def _publish(tree: Tree, staged: StagedFile, marker: Marker, under: Digest | None) -> Publication:
    primary = staged.digest(marker.algorithm)
    if marker.names:
        return _publish_names(tree, staged, primary, marker, under)
    with tree.make_shard(primary) as home:
        linked = home.link(staged, primary)
        added = Added.CREATED if linked else home.meet(staged, primary, tree.staging, sync=tree.sync)
        # Also for a duplicate: the upload that linked the blob may not have synced it yet, and this one is
        # about to be acknowledged.
        if tree.full:
            home.sync()
    return Publication(added, (primary,))


def _publish_names(
    tree: Tree, staged: StagedFile, primary: Digest, marker: Marker, under: Digest | None
) -> Publication:
    further = [staged.digest(algorithm) for algorithm in marker.names]
    with tree.shards((primary, *further), make=True) as shards:
        given: dict[Digest, Given] = {}
        # First the one that has to lead to this file: if it cannot, nothing is changed.
        for name in sorted(further, key=lambda name: name != under):
            given[name] = give(tree, shards[name.hex[:2]], name, staged, marker)
            if name == under and given[name] is Given.OTHERS:
                raise DigestCollision(hash=name.hex)
        ours = {name: shards[name.hex[:2]] for name in further if given[name] is not Given.OTHERS}
        home = shards[primary.hex[:2]]
        # Until the blob is there, nobody removes a name that leads nowhere, nor gives it to another file.
        with locked_shards(
            {name.hex[:2]: shard for name, shard in ours.items()}, fcntl.LOCK_SH, needed=False
        ):
            if not all(shard.leads(name, primary) for name, shard in ours.items()):
                raise FileNotFoundError(errno.ENOENT, "another upload has taken a name, or it was removed")
            linked = home.link(staged, primary)
        added = Added.CREATED if linked else home.meet(staged, primary, tree.staging, sync=tree.sync)
        if tree.full:
            for shard in shards.values():
                shard.sync()
    if added is Added.CREATED and Given.HEALED in given.values():
        added = Added.HEALED
    ambiguous = tuple(name.algorithm for name in further if name not in ours)
    return Publication(added, (primary, *(name for name in further if name in ours)), ambiguous)


def renew(tree: Tree, digest: Digest, size: int, marker: Marker) -> Publication | None:
    """Renew a blob as Renewal.renew does; the caller keeps the marker as it is. Raises OSError."""
    for _ in range(ROUNDS):
        try:
            _, at = tree.find(digest, stat_file)
        except BlobNotFound:
            return None
        if at.algorithm is not marker.algorithm:
            return None  # an upload would give it its primary name
        with suppress(FileNotFoundError), tree.shards((at, digest), make=True) as shards:
            if not shards[at.hex[:2]].renew(at, size, sync=tree.sync):
                return None
            # As for a duplicate: the upload that linked the blob may not have synced it yet.
            if tree.full:
                for shard in shards.values():
                    shard.sync()
            return Publication(Added.HELD, (at,) if at == digest else (at, digest))
        tree.forget_shards()  # perhaps one was removed
    raise StoreUnavailable("the blob kept being replaced while it was renewed", hash=digest.hex)
