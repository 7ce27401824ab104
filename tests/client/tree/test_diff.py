"""The differences of trees."""

from dataclasses import replace

from hypothesis import given

from tests.support.trees import folders
from wsgi_store.client import Change
from wsgi_store.client.tree.diff import changes
from wsgi_store.client.tree.entry import Entry, Kind, place
from wsgi_store.digest import Algorithm, Digest

ONE, OTHER = (Digest(Algorithm.MD5, bytes([number] * 16)) for number in (1, 2))
TOP = Entry(".", Kind.DIRECTORY, 0o755)
FILE = Entry("f", Kind.FILE, 0o644, 3, 5, ONE)
LINK = Entry("l", Kind.LINK, 0o777, target="f")


def what(before: Entry, after: Entry) -> list[tuple[str, ...]]:
    """What changed of one path."""
    return [change.what for change in changes([TOP, before], [TOP, after])]


@given(folders(Algorithm.MD5), folders(Algorithm.MD5))
def test_a_difference_for_each_path(before: list[Entry], after: list[Entry]) -> None:
    """Each path that two folders have different things at comes once and in order, and no other one does."""
    old, new = ({entry.path: entry for entry in entries} for entries in (before, after))
    differ = [path for path in old.keys() | new.keys() if old.get(path) != new.get(path)]
    expected = [Change(path, old.get(path), new.get(path)) for path in sorted(differ, key=place)]
    assert list(changes(before, after)) == expected
    for change in expected:
        assert bool(change.what) is (change.before is not None and change.after is not None)


def test_nothing_differs() -> None:
    """Equal trees have no differences."""
    assert not list(changes([TOP, FILE, LINK], [TOP, FILE, LINK]))
    assert not list(changes([], []))


def test_what_changed() -> None:
    """A change says what of a path it is."""
    assert what(FILE, replace(FILE, hash=OTHER)) == [("content",)]
    assert what(FILE, replace(FILE, mode=0o600, modified=6)) == [("mode", "time")]
    assert what(LINK, replace(LINK, target="g")) == [("target",)]
    assert what(FILE, Entry("f", Kind.DIRECTORY, 0o644)) == [("kind",)]
    assert what(FILE, Entry("f", Kind.LINK, 0o777, target="l")) == [("kind",)]


def test_two_algorithms() -> None:
    """Hashes by two algorithms do not tell whether the content changed; sizes may."""
    sha256 = Digest(Algorithm.SHA256, bytes(32))
    assert what(FILE, replace(FILE, hash=sha256)) == [("algorithm",)]
    assert what(FILE, replace(FILE, hash=sha256, size=4)) == [("content",)]


def test_a_directory_becomes_a_file() -> None:
    """Everything in it is removed."""
    before = [TOP, Entry("f", Kind.DIRECTORY, 0o755), replace(FILE, path="f/a")]
    assert [(change.path, change.after) for change in changes(before, [TOP, FILE])] == [
        ("f", FILE),
        ("f/a", None),
    ]
