"""Trees of any kind, for Hypothesis."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from wsgi_store.client.tree.entry import TOP, Entry, Kind, to_text
from wsgi_store.digest import Algorithm, Digest

# A directory with what is in it by names: entries and folders.
Folder = tuple[Entry, dict[bytes, Any]]
# Any bytes that a name of the file system may have, those with a meaning in mtree(5) more often.
BYTES = st.one_of(st.sampled_from(b" #=\\*?[\n\t.\x7f\xff\xc3\xa4ab-"), st.integers(1, 255))
TEXTS = st.lists(BYTES, min_size=1, max_size=8).map(bytes)
# Components of paths.
NAMES = TEXTS.map(lambda raw: raw.replace(b"/", b"_")).filter(lambda raw: raw not in (b".", b".."))
MODES = st.integers(0, 0o777)
TIMES = st.one_of(st.integers(-3 * 10**9, 3 * 10**9), st.integers(-(2**63) * 10**9, 2**63 * 10**9 - 1))


def folders(algorithm: Algorithm) -> st.SearchStrategy[list[Entry]]:
    """The entries of a folder, in the order of a tree."""
    digests = st.binary(min_size=algorithm.size, max_size=algorithm.size).map(
        lambda raw: Digest(algorithm, raw)
    )
    files = st.builds(
        lambda *values: Entry("", Kind.FILE, *values), MODES, st.integers(0, 2**63 - 1), TIMES, digests
    )
    links = st.builds(lambda target: Entry("", Kind.LINK, 0o777, target=to_text(target)), TEXTS)
    tops = MODES.map(lambda mode: Entry("", Kind.DIRECTORY, mode))
    directories: st.SearchStrategy[Folder] = st.recursive(
        st.tuples(tops, st.just({})),
        lambda inner: st.tuples(tops, st.dictionaries(NAMES, files | links | inner, max_size=5)),
        max_leaves=20,
    )
    return directories.map(lambda folder: list(below(b"", folder)))


def below(path: bytes, folder: Folder) -> Iterator[Entry]:
    """Yield a folder and what is in it, with their paths."""
    top, inner = folder
    yield replace(top, path=to_text(path) or TOP)
    for name, one in sorted(inner.items(), key=lambda named: named[0]):
        place = path + b"/" + name if path else name
        if isinstance(one, Entry):
            yield replace(one, path=to_text(place))
        else:
            yield from below(place, one)
