"""Trees from strangers, and directories in which strangers are at work."""

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.faults import exfat
from tests.support.restoring import (
    File,
    Folder,
    Link,
    Thing,
    as_other_user,
    expected,
    failures,
    found,
    put_tree,
    restored,
)
from tests.support.strangers import NOBODY, exchanging, give, home, snapshot
from tests.support.trees import NAMES
from wsgi_store.client import Client
from wsgi_store.client.tree import files
from wsgi_store.client.tree.entry import to_text
from wsgi_store.client.tree.folding import Twins, folded
from wsgi_store.client.tree.links import MOST, Links
from wsgi_store.client.tree.places import LONGEST, Places
from wsgi_store.errors import OutwardLink

LARGE = b"large" * files.SMALL
OUTWARD: dict[str, dict[str, Thing]] = {
    "absolute": {"link": Link("/etc/passwd")},
    "root": {"link": Link("//")},
    "above": {"link": Link("..")},
    "beside": {"a/link": Link("../../x")},
    "down and up": {"link": Link("a/b/../../../x"), "a/b": Folder()},
    "blanks": {"link": Link("a//./.././../x"), "a": Folder()},
    "through a link": {"a/b/c": Folder(), "short": Link("a/b/c/../../.."), "link": Link("short/../x")},
    "through a deep link": {"a/b/up": Link("../.."), "link": Link("a/b/up/../x")},
    "through two": {"a/one": Link("../b/two"), "b/two": Link(".."), "link": Link("a/one/../x")},
    "a later one": {"link": Link("z/../.."), "z": Link("a"), "a": Folder()},
    "through what is missing": {"a/link": Link("missing/../b")},
    "through a file": {"file": File(), "link": Link("file/../x")},
    "too many": {
        **{f"l{number}": Link(f"l{number + 1}") for number in range(MOST + 1)},
        f"l{MOST + 1}": Link("l0/../.."),
        "link": Link("l0"),
    },
}
INWARD: dict[str, dict[str, Thing]] = {
    "file": {"link": Link("file"), "file": File()},
    "dangling": {"link": Link("missing/too")},
    "top": {"a/link": Link("..")},
    "itself": {"link": Link("link")},
    "round": {"link": Link("other/x/../../.."), "other": Link("link/..")},
    "through links": {"a/b": Link("../c"), "c/d": Link("../e"), "e": Folder(), "link": Link("a/b/d/../x")},
}


@pytest.mark.parametrize("things", OUTWARD.values(), ids=list(OUTWARD))
def test_links_that_lead_out(client: Client, things: dict[str, Thing], tmp_path: Path) -> None:
    """A link that leads out of the directory, in whatever way, is refused; with a switch it is made."""
    tree = put_tree(client, things)
    outcome = restored(client, tree, tmp_path / "new")
    link = next(path for path in things if path.endswith("link"))
    assert isinstance(outcome[link].error, OutwardLink)
    assert not os.path.lexists(tmp_path / "new" / link)
    assert not failures(restored(client, tree, tmp_path / "new", outward_links=True))
    assert found(tmp_path / "new") == expected(things)


@pytest.mark.parametrize("things", INWARD.values(), ids=list(INWARD))
def test_links_that_stay(client: Client, things: dict[str, Thing], tmp_path: Path) -> None:
    """A link that leads nowhere else is made."""
    assert not failures(restored(client, put_tree(client, things), tmp_path / "new"))
    assert found(tmp_path / "new") == expected(things)


def test_a_link_through_one_that_is_there(client: Client, tmp_path: Path) -> None:
    """A link that leads out through one in the directory is refused, too."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new/there").symlink_to("/etc")
    outcome = restored(client, put_tree(client, {"link": Link("there/passwd")}), tmp_path / "new")
    assert isinstance(outcome["link"].error, OutwardLink)


def test_links_where_names_are_folded(tmp_path: Path) -> None:
    """A link that leads out through the other case of a name is found."""
    with Places(str(tmp_path)) as places:
        places.make(b"d")
        places.make(b"d/e")
        for key, leads_out in ((lambda path: path, False), (lambda path: folded(to_text(path)), True)):
            links = Links(places, key)
            links.add(b"d/e/b", b"../..")
            links.add(b"d/e/x", b"B/..")
            (tmp_path / "d/e/B").mkdir(exist_ok=True)
            assert links.leads_out(b"d/e/x", b"B/..") is leads_out


LETTERS = st.text("aAbß.\u0130ıe\u0301éſs", min_size=1, max_size=3).filter(
    lambda name: name not in (".", "..")
)


@given(st.dictionaries(LETTERS, st.lists(LETTERS, max_size=3), max_size=4))
def test_twins(names: dict[str, list[str]]) -> None:
    """Twins are found in each directory, in the order of a tree, and nowhere else."""
    twins = Twins()
    paths = sorted(
        [[name] for name in names]
        + [[name, inner] for name, inners in names.items() for inner in set(inners)]
    )
    seen: dict[tuple[str, str], str] = {}
    for components in paths:
        path = "/".join(components)
        key = "/".join(components[:-1]), folded(components[-1])
        first = seen.setdefault(key, path)
        assert twins.twin(path) == (None if first == path else first)


def test_a_file_system_that_folds_names(client: Client, tmp_path: Path) -> None:
    """Of names that are one to the file system, the later one fails; the first keeps its bytes."""
    things: dict[str, Thing] = {
        "A": File(b"upper"),
        "a": File(b"lower"),
        "B": Folder(),
        "B/file": File(b"in B"),
        "b": Folder(),
        "b/file": File(b"in b"),
        "good": File(b"good"),
        "\udcff": File(b"no UTF-8"),
        "Ä": File(b"Upper"),
        "ä": File(b"Lower"),
        "link": Link("good"),
    }
    tree = put_tree(client, things)
    with exfat(tmp_path / "disk"):
        for _ in range(2):
            outcome = restored(client, tree, tmp_path / "disk/new")
            told = failures(outcome)
            assert told.keys() == {"a", "b", "ä", "\udcff", "link"}
            assert told["b"] == "[Errno 17] this file system takes the name for that of B"
            kept = {path: seen[0] for path, seen in found(tmp_path / "disk/new").items() if len(seen) == 3}
            assert kept == {"A": b"upper", "B/file": b"in B", "good": b"good", "Ä": b"Upper"}
        assert not any(one.written for one in outcome.values())


def test_paths_that_are_too_long(client: Client, tmp_path: Path) -> None:
    """A name or a path that the file system refuses fails alone, however deep it is."""
    deep = "/".join(["d"] * (LONGEST // 2))
    things: dict[str, Thing] = {"n" * 256: File(b"1"), f"{deep}/file": File(b"2"), "good": File(b"3")}
    try:
        outcome = restored(client, put_tree(client, things), tmp_path / "new")
    finally:
        # Deeper than what pytest can remove.
        subprocess.run(["rm", "-r", tmp_path / "new"], check=True)
    assert {path[:9] for path in failures(outcome)} == {"n" * 9, "d/d/d/d/d"}
    assert all("too long" in told for told in failures(outcome).values())
    assert outcome["good"].written


@pytest.fixture(name="theirs")
def fixture_theirs() -> Iterator[Path]:
    """A directory of another user."""
    with home() as path:
        yield path


def test_links_that_are_put_there_meanwhile(client: Client, theirs: Path, tmp_path: Path) -> None:
    """Root restores into a directory whose owner keeps exchanging parts of it with links."""
    things: dict[str, Thing] = {
        "a/file": File(b"1", 0o666),
        "a/b/file": File(b"2", 0o666),
        "a/b/link": Link("file"),
        "c": File(b"3"),
        "a/b/mode": Folder(0o777),
        "large": File(LARGE),
    }
    tree = put_tree(client, things)
    ours = tmp_path / "ours"
    for name in ("a/b/mode", "part"):
        (ours / name).mkdir(parents=True)
    for name in ("a/file", "a/b/file", "c"):
        (ours / name).write_bytes(b"1")
        (ours / name).chmod(0o600)
    target = theirs / "target"
    (target / "a/b/mode").mkdir(parents=True)
    pairs = []
    for name, leads in (("a", "a"), ("a/b", "a/b"), ("a/file", "c"), ("c", "c"), ("a/b/mode", "a/b/mode")):
        link = theirs / f"to-{name.replace('/', '-')}"
        link.symlink_to(ours / leads)
        if leads == "c":
            (target / name).touch()
        pairs.append((target / name, link))
    part = target / f".{tree}.part"
    (theirs / "part").symlink_to(ours / "part")
    pairs.append((part, theirs / "part"))
    give(theirs)
    before = snapshot(ours)
    with exchanging(*pairs):
        for _ in range(60):
            with suppress(OSError):
                restored(client, tree, target)
    assert snapshot(ours) == before
    # What they leave behind does not stop a later restore.
    for path in (part, *target.iterdir()):
        if path.is_symlink():
            path.unlink()
    if part.exists():
        os.chown(part, 0, 0)
    failed = failures(restored(client, tree, target))
    assert all("Not a directory" in told or "in the way" in told for told in failed.values())


@pytest.mark.parametrize("kind", ["link", "file", "theirs"])
def test_a_part_that_is_not_ours(client: Client, theirs: Path, tmp_path: Path, kind: str) -> None:
    """What another user puts where unfinished files belong is not used."""
    tree = put_tree(client, {"file": File(b"1")})
    part = theirs / f".{tree}.part"
    (tmp_path / "ours").mkdir()
    if kind == "link":
        part.symlink_to(tmp_path / "ours")
    elif kind == "file":
        part.touch()
    else:
        part.mkdir()
    give(theirs)
    with pytest.raises(OSError, match=f"(Not a directory|belongs to another user).*/.{tree}.part"):
        restored(client, tree, theirs)
    assert os.listdir(theirs) == [part.name] and not os.listdir(tmp_path / "ours")


def test_files_planted_in_our_part(client: Client, tmp_path: Path) -> None:
    """Links in the place of unfinished files are removed, and what they lead to is not written to."""
    tree = put_tree(client, {"large": File(LARGE), "empty": File(), "small": File(b"1")})
    target = tmp_path / "new"
    part = target / f".{tree}.part"
    part.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(LARGE[:10])
    large = client.put(LARGE).hash
    os.link(elsewhere, part / f"{large}-{len(LARGE)}.part")
    os.link(elsewhere, part / "tree.part")
    (part / "new-1").symlink_to(elsewhere)
    (part / f"{large}-{len(LARGE)}").symlink_to(elsewhere)
    part.chmod(0o777)
    assert not failures(restored(client, tree, target))
    assert elsewhere.read_bytes() == LARGE[:10]
    assert (target / "large").read_bytes() == LARGE
    assert not part.exists()


def test_what_others_see_meanwhile(client: Client, tmp_path: Path) -> None:
    """Until the restore ends, nobody else can look into a new directory."""
    tree = put_tree(client, {"a/b": File(b"1"), "a/c": File(LARGE)})
    modes = set()
    for _ in client.get_tree(tree, tmp_path / "new"):
        modes.add(stat.S_IMODE((tmp_path / "new").stat().st_mode))
    assert modes == {0o700, 0o755}


def test_no_setuid(client: Client, tmp_path: Path) -> None:
    """A file with the bytes of the tree loses its setuid bit, which no tree has."""
    tree = put_tree(client, {"file": File(b"1", 0o755)})
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "file").chmod(0o4755)
    assert not failures(restored(client, tree, tmp_path))
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o755


def test_files_of_another_owner(client: Client, theirs: Path) -> None:
    """An ordinary user replaces a file of somebody else that has another mode, and keeps an equal one."""
    tree = put_tree(client, {"equal": File(b"1"), "mode": File(b"2"), "bytes": File(b"3")})
    port = client.url("").split(":")[2].strip("/")
    for name, data in (("equal", b"1"), ("mode", b"2"), ("bytes", b"x")):
        (theirs / name).write_bytes(data)
        (theirs / name).chmod(0o600 if name == "mode" else 0o644)
        os.utime(theirs / name, ns=(File().modified, File().modified))

    def act() -> None:
        with Client(f"http://127.0.0.1:{port}") as own:
            outcome = restored(own, tree, theirs)
            assert not failures(outcome)
            assert {path for path, one in outcome.items() if one.written} == {"mode", "bytes"}

    as_other_user(act)
    assert [(theirs / name).stat().st_uid for name in ("equal", "mode", "bytes")] == [0, NOBODY, NOBODY]


THINGS = st.one_of(
    st.builds(File, st.binary(max_size=20), st.integers(0, 0o777), st.integers(-(2**30), 2**60)),
    st.builds(Link, NAMES.map(to_text)),
    st.builds(Folder, st.integers(0, 0o777)),
)
PATHS = st.lists(NAMES.map(to_text), min_size=1, max_size=3).map("/".join)


@given(things=st.dictionaries(PATHS, THINGS, max_size=6))
def test_any_folder(
    client: Client, tmp_path_factory: pytest.TempPathFactory, things: dict[str, Thing]
) -> None:
    """Whatever names, modes and times there are, they come back."""
    directories = {path for path, thing in things.items() if isinstance(thing, Folder)}
    things = {
        path: thing
        for path, thing in things.items()
        if all(
            above not in things or above in directories
            for above in ("/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1))
        )
    }
    target = tmp_path_factory.mktemp("any") / "new"
    outcome = restored(client, put_tree(client, things), target, outward_links=True)
    assert not failures(outcome)
    assert found(target) == expected(things)
    assert not any(
        one.written for one in restored(client, put_tree(client, things), target, outward_links=True).values()
    )
