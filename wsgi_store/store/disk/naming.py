"""Giving blobs their names: further ones, and a primary one to a file that has only a further one."""

import enum
import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, StoreUnavailable
from wsgi_store.filesystem import NoFile, locked, open_file
from wsgi_store.store.abilities import Adopted, Hashed
from wsgi_store.store.disk.names import followed, is_link, read_link, stamp_of, stat_file, target_of
from wsgi_store.store.disk.shard import Shard, has_digest, not_a_file, same_bytes
from wsgi_store.store.disk.tree import Tree
from wsgi_store.store.marker import Marker
from wsgi_store.store.staged import HashedFile

# Errors of linking a file of another user (fs.protected_hardlinks, proc_sys_fs(5)), or once too often.
UNLINKABLE = {errno.EPERM, errno.EACCES, errno.EMLINK}
# Attempts to give a name, each of which a concurrent removal can spoil.
ROUNDS = 100


class Given(enum.Enum):
    """Whose a name is after a file was to get it."""

    OURS = "ours"
    OTHERS = "others"
    """Of a different file with the same digest."""
    HEALED = "healed"
    """Ours, instead of a damaged file."""
    MENDED = "mended"
    """Ours, instead of a different file that has not this digest."""


def give(tree: Tree, shard: Shard, name: Digest, file: HashedFile, marker: Marker) -> Given:
    """Make a further name lead to the primary one of an open file, unless it is another file's.

    The caller holds no lock. Raises StoreUnavailable if the name is in use for something else, and OSError;
    FileNotFoundError if the name changed meanwhile.
    """
    primary = file.digest(marker.algorithm)
    if shard.name(name, primary):
        return Given.OURS
    text = read_link(name.hex, shard.fd)
    if text is None:
        return _meet(tree, shard, name, file, marker)
    if text == target_of(primary):
        return Given.OURS
    if not is_link(text):
        raise not_a_file(name)
    other = followed(text, name.algorithm, marker)
    held = None if other is None else _opened(tree, other)
    given = Given.OURS
    if held is not None:
        fd, at = held
        try:
            if same_bytes(fd, file.fd):
                # A name leads to the old one until the blob has a primary one.
                if at.algorithm is not marker.algorithm:
                    with tree.shard(at) as old:
                        _meet(tree, old, at, file, marker)
            elif has_digest(fd, name):
                if read_link(name.hex, shard.fd) != text:
                    raise _changed()
                return Given.OTHERS
            else:
                given = Given.MENDED
        finally:
            os.close(fd)
    with locked(shard.fd):
        # A name that led nowhere may lead to a blob again.
        if read_link(name.hex, shard.fd) != text or (held is None and other and _is_held(tree, other)):
            raise _changed()
        shard.rename([(name, primary)], tree.staging)
    return given


def _meet(tree: Tree, shard: Shard, name: Digest, file: HashedFile, marker: Marker) -> Given:
    """Settle whose a name is under which there is a regular file."""
    with shard.held(name) as held:
        if same_bytes(held, file.fd):
            for algorithm in marker.algorithms:
                file.digest(algorithm)
            found = Hashed(name, stamp_of(os.fstat(held)), file.digests)
            if adopt(tree, [found], marker)[0] not in (Adopted.NAMED, Adopted.JOINED, Adopted.HELD):
                raise _changed()
            return Given.OURS
        if has_digest(held, name):
            return Given.OTHERS
        with locked(shard.fd):
            shard.require(name, held)
            shard.rename([(name, file.digest(marker.algorithm))], tree.staging)
        return Given.HEALED


def give_all(
    tree: Tree, found: Iterable[Hashed], marker: Marker, mended: list[Digest] | None = None
) -> dict[Digest, list[Algorithm]]:
    """Give blobs their further names; returns the algorithms by which a name is that of another file.

    Blobs that were removed since they were hashed are left out. Names that led to a file without that
    digest are added to `mended`. Raises StoreUnavailable and OSError.
    """
    ambiguous: dict[Digest, list[Algorithm]] = {}
    changed: dict[str, Digest] = {}
    for one in found:
        held = _opened(tree, one.digest)
        if held is None:
            continue
        fd, _ = held
        try:
            if stamp_of(os.fstat(fd)) != one.stamp:
                continue
            file = HashedFile(fd, dict(one.digests))
            given = {
                algorithm: _give(tree, file.digest(algorithm), file, marker) for algorithm in marker.names
            }
            changed |= {file.digest(algorithm).hex[:2]: file.digest(algorithm) for algorithm in given}
            ambiguous[one.digest] = [one for one in given if given[one] is Given.OTHERS]
            if mended is not None:
                mended += [file.digest(one) for one in given if given[one] is Given.MENDED]
        finally:
            os.close(fd)
    if tree.full:
        for name in changed.values():
            with suppress(FileNotFoundError), tree.shard(name) as shard:
                shard.sync()
    return ambiguous


def _give(tree: Tree, name: Digest, file: HashedFile, marker: Marker) -> Given:
    """Give a name as `give` does, however often others change it meanwhile."""
    for _ in range(ROUNDS):
        try:
            with tree.make_shard(name) as shard:
                return give(tree, shard, name, file, marker)
        except FileNotFoundError:
            tree.forget_shards()  # perhaps one was removed
    raise StoreUnavailable("a name of the blob kept being removed while it was given", hash=name.hex)


def adopt(tree: Tree, found: Sequence[Hashed], marker: Marker) -> list[Adopted]:
    """Give files under further names, all in one shard, their primary names; see Names.adopt.

    Raises StoreUnavailable and OSError.
    """
    damaged: dict[int, Digest] = {}
    with ExitStack() as stack:
        try:
            shard = stack.enter_context(tree.shard(found[0].digest))
        except FileNotFoundError:
            return [Adopted.GONE] * len(found)
        # Removing takes this lock, too: it finds either the old name alone, or all names.
        stack.enter_context(locked(shard.fd))
        homes: dict[str, Shard] = {}
        outcomes = []
        for one in found:
            primary = one.digests.get(marker.algorithm)
            if primary is None or primary == one.digest:
                outcomes.append(Adopted.CHANGED)
                continue
            if primary.hex[:2] not in homes:
                homes[primary.hex[:2]] = stack.enter_context(tree.make_shard(primary))
            outcomes.append(_link(shard, one, homes[primary.hex[:2]], primary))
            if outcomes[-1] is Adopted.DAMAGED:
                damaged[len(outcomes) - 1] = primary
        if tree.full:
            for home in homes.values():
                home.sync()
        named = [
            one
            for one, outcome in zip(found, outcomes, strict=True)
            if outcome in (Adopted.NAMED, Adopted.JOINED)
        ]
        shard.rename(((one.digest, one.digests[marker.algorithm]) for one in named), tree.staging)
        if tree.full:
            shard.sync()
    for at, primary in damaged.items():
        try:
            with tree.make_shard(primary) as home:
                damage = home.quarantine(primary, tree.quarantine)
        except FileNotFoundError:  # removed or replaced meanwhile
            damage = False
        # It may be a different file with this digest.
        if not damage:
            outcomes[at] = Adopted.CHANGED
    if len(marker.names) > 1:
        give_all(tree, _anew(tree, named, marker), marker)
    return outcomes


def _link(shard: Shard, one: Hashed, home: Shard, primary: Digest) -> Adopted:
    """Link a file under its primary name; the caller holds the lock of its shard."""
    try:
        status = stat_file(one.digest.hex, shard.fd)
    except FileNotFoundError:
        return Adopted.GONE
    except NoFile:
        return Adopted.HELD if shard.leads(one.digest, primary) else Adopted.GONE
    if stamp_of(status) != one.stamp:
        return Adopted.CHANGED
    try:
        os.link(one.digest.hex, primary.hex, src_dir_fd=shard.fd, dst_dir_fd=home.fd, follow_symlinks=False)
    except FileExistsError:
        try:
            with home.held(primary) as there, shard.held(one.digest) as here:
                same = os.path.samestat(os.fstat(there), os.fstat(here)) or same_bytes(there, here)
                return Adopted.JOINED if same else Adopted.DAMAGED
        except FileNotFoundError:  # removed meanwhile
            return Adopted.CHANGED
    except OSError as error:
        if error.errno in UNLINKABLE:
            return Adopted.UNLINKABLE
        raise
    return Adopted.NAMED


def _anew(tree: Tree, found: Iterable[Hashed], marker: Marker) -> Iterable[Hashed]:
    """Yield what was hashed by its primary name, with the stamp that it has since it was linked."""
    for one in found:
        primary = one.digests[marker.algorithm]
        try:
            status, _ = tree.find(primary, stat_file)
        except BlobNotFound:
            continue
        yield Hashed(primary, stamp_of(status), one.digests)


def settle(tree: Tree, digest: Digest, marker: Marker) -> None:
    """Finish the adoption of a file that has both its names, after a process was killed in between.

    Raises StoreUnavailable and OSError, FileNotFoundError if the file was removed meanwhile.
    """
    held = _opened(tree, digest)
    if held is None:
        raise _changed()
    fd, _ = held
    try:
        file = HashedFile(fd)
        digests = {algorithm: file.digest(algorithm) for algorithm in marker.algorithms}
        status = os.fstat(fd)
        for algorithm in marker.names:
            found = Hashed(digests[algorithm], stamp_of(status), digests)
            try:
                there, _ = tree.find(found.digest, stat_file)
            except BlobNotFound:
                continue
            if os.path.samestat(there, status):
                adopt(tree, [found], marker)
    finally:
        os.close(fd)


def _opened(tree: Tree, digest: Digest) -> tuple[int, Digest] | None:
    """Open the file of a blob; returns its descriptor and the name under which it lies."""
    try:
        (fd, _), at = tree.find(digest, open_file)
    except BlobNotFound:
        return None
    return fd, at


def _is_held(tree: Tree, digest: Digest) -> bool:
    try:
        tree.find(digest, stat_file)
    except BlobNotFound:
        return False
    return True


def _changed() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "the name changed meanwhile")
