"""Trees of any kind, for Hypothesis."""

from collections.abc import Iterator

from hypothesis import strategies as st

from wsgi_store.client.tree.entry import TOP, Entry, Kind, to_text
from wsgi_store.digest import Algorithm, Digest

# Any bytes that a name of the file system may have, those with a meaning in mtree(5) more often.
BYTES = st.one_of(st.sampled_from(b" #=\\*?[\n\t.\x7f\xff\xc3\xa4ab-"), st.integers(1, 255))
TEXTS = st.lists(BYTES, min_size=1, max_size=8).map(bytes)
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
    links = st.builds(lambda mode, target: Entry("", Kind.LINK, mode, target=to_text(target)), MODES, TEXTS)
    directories = st.recursive(
        st.tuples(MODES, st.just({})),
        lambda inner: st.tuples(MODES, st.dictionaries(NAMES, files | links | inner, max_size=5)),
        max_leaves=20,
    )
    return directories.map(lambda directory: list(_below(b"", directory)))


def _below(
    path: bytes, directory: tuple[int, dict[bytes, Entry | tuple[int, dict[bytes, object]]]]
) -> Iterator[Entry]:
    mode, inner = directory
    yield Entry(to_text(path) or TOP, Kind.DIRECTORY, mode)
    for name in sorted(inner):
        below = path + b"/" + name if path else name
        match inner[name]:
            case Entry() as entry:
                yield Entry(
                    to_text(below),
                    entry.kind,
                    entry.mode,
                    entry.size,
                    entry.modified,
                    entry.hash,
                    entry.target,
                )
            case lower:
                yield from _below(below, lower)
