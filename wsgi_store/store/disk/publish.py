"""Publishing staged files: the further names of each first, its primary name last, all synced at the end."""

import errno
import fcntl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, DigestCollision, StoreError, StoreUnavailable
from wsgi_store.filesystem import NAME, TOO_MANY_OPEN, Directory, disk_errors, touch
from wsgi_store.store.contract import Added, Publication
from wsgi_store.store.disk.names import stat_file
from wsgi_store.store.disk.naming import Given, give
from wsgi_store.store.disk.tree import Tree, discarded, locked_shards
from wsgi_store.store.disk.writing import Writing
from wsgi_store.store.marker import Marker
from wsgi_store.store.staged import StagedFile

# Rounds, each of which a concurrent removal can spoil.
ROUNDS = 100


def publish(
    tree: Tree, files: Sequence[StagedFile], under: Digest | None = None
) -> list[Publication | StoreError]:
    """Publish staged files as Store.add does, and sync them together; returns the outcome of each."""
    try:
        with disk_errors("cannot publish the blob"), tree.marker.held() as marker, Writing(tree) as writing:
            outcomes = _published(tree, files, marker, under, writing)
    except StoreError as error:
        return [error] * len(files)
    # Not earlier: until now the files in quarantine were all that was left of these blobs.
    _heal(tree, outcomes)
    return outcomes


def _published(
    tree: Tree, files: Sequence[StagedFile], marker: Marker, under: Digest | None, writing: Writing
) -> list[Publication | StoreError]:
    if len(files) > 1:
        digests = (staged.digests.get(algorithm) for staged in files for algorithm in marker.algorithms)
        with suppress(OSError):  # a directory that cannot be made fails the files that need it
            tree.make_shards({digest.hex[:2] for digest in digests if digest})
    outcomes: list[Publication | StoreError] = []
    used: list[list[object]] = []
    for staged in files:
        writing.used = []
        outcomes.append(_outcome(tree, staged, marker, under, writing))
        used.append(writing.used if isinstance(outcomes[-1], Publication) else [])
    # Also for duplicates: the upload that linked the blob may not have synced its directory yet, and this one
    # is about to be acknowledged.
    writing.sync(used)
    for number, mine in enumerate(used):
        if failure := writing.failure(mine):
            try:
                with disk_errors("cannot publish the blob"):
                    raise failure
            except StoreError as error:
                outcomes[number] = error
    return outcomes


def _outcome(
    tree: Tree, staged: StagedFile, marker: Marker, under: Digest | None, writing: Writing
) -> Publication | StoreError:
    crowded = False
    try:
        with disk_errors("cannot publish the blob"):
            touch(staged.fd)  # its last byte may have been written long ago
            for _ in range(ROUNDS):
                try:
                    return _publish(tree, staged, marker, under, writing)
                except FileNotFoundError:
                    tree.forget_shards()  # perhaps one was removed
                except OSError as error:
                    if crowded or error.errno not in TOO_MANY_OPEN:
                        raise
                    crowded = True
                writing.sync()
        raise StoreUnavailable("the blob or its directory kept being removed while the blob was added")
    except StoreError as error:
        return error


def _publish(
    tree: Tree, staged: StagedFile, marker: Marker, under: Digest | None, writing: Writing
) -> Publication:
    primary = staged.digest(marker.algorithm)
    if marker.names:
        return _publish_names(tree, staged, primary, marker, under, writing)
    home = writing.shard(primary)
    linked = home.link(staged, primary)
    added = Added.CREATED if linked else home.meet(staged, primary, tree.staging, writing.later)
    return Publication(added, (primary,))


def _publish_names(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    tree: Tree,
    staged: StagedFile,
    primary: Digest,
    marker: Marker,
    under: Digest | None,
    writing: Writing,
) -> Publication:
    further = [staged.digest(algorithm) for algorithm in marker.names]
    shards = writing.shards((primary, *further))
    given: dict[Digest, Given] = {}
    # First the one that has to lead to this file: if it cannot, nothing is changed.
    for name in sorted(further, key=lambda name: name != under):
        given[name] = give(tree, shards[name.hex[:2]], name, staged, marker)
        if name == under and given[name] is Given.OTHERS:
            raise DigestCollision(hash=name.hex)
    ours = {name: shards[name.hex[:2]] for name in further if given[name] is not Given.OTHERS}
    home = shards[primary.hex[:2]]
    # Until the blob is there, nobody removes a name that leads nowhere, nor gives it to another file.
    with locked_shards({name.hex[:2]: shard for name, shard in ours.items()}, fcntl.LOCK_SH, needed=False):
        if not all(shard.leads(name, primary) for name, shard in ours.items()):
            raise FileNotFoundError(errno.ENOENT, "another upload has taken a name, or it was removed")
        linked = home.link(staged, primary)
    added = Added.CREATED if linked else home.meet(staged, primary, tree.staging, writing.later)
    if added is Added.CREATED and Given.HEALED in given.values():
        added = Added.HEALED
    ambiguous = tuple(name.algorithm for name in further if name not in ours)
    return Publication(added, (primary, *(name for name in further if name in ours)), ambiguous)


def _heal(tree: Tree, outcomes: list[Publication | StoreError]) -> None:
    """Remove from quarantine what was created, which thereby is healed."""
    created = [
        (number, one)
        for number, one in enumerate(outcomes)
        if isinstance(one, Publication) and one.added is Added.CREATED
    ]
    if created:
        # The blobs are published, even if the damaged ones stay.
        with suppress(OSError), Directory(tree.quarantine, NAME) as place:
            for number, one in created:
                with suppress(OSError):
                    if sum(discarded(name, place) for name in one.names):
                        outcomes[number] = replace(one, added=Added.HEALED)


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
