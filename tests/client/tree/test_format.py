"""The text of trees."""

import errno
import io
import pickle
from collections.abc import Iterator
from operator import attrgetter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.trees import folders
from wsgi_store.client.tree.entry import Entry, Kind, place
from wsgi_store.client.tree.format import LONGEST_LINE, lines, read, write
from wsgi_store.digest import Algorithm
from wsgi_store.errors import MalformedTree

SHA256 = b"98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4"
FILE = b"./f type=file mode=0644 size=3 time=1700000000.123456789 sha256digest=" + SHA256
TREE = b"#mtree\n. type=dir mode=0755\n"
TEXT = (
    b"""#mtree
. type=dir mode=0755
./a\\040b type=dir mode=0700
./a\\040b/\\303\\244\\377\\043\\134\\052\\012 type=file mode=0644 size=3 time=-2.500000000 sha256digest=%s
./a\\040b.txt type=link mode=0777 link=../a\\040b
"""
    % SHA256
)


def parsed(text: bytes) -> list[Entry]:
    """The entries of a tree."""
    return list(read(lines(io.BytesIO(text))))


def test_the_format() -> None:
    """Paths and targets are escaped, and a directory comes before what is in it."""
    digest = Algorithm.SHA256.parse(SHA256.decode())
    entries = [
        Entry(".", Kind.DIRECTORY, 0o755),
        Entry("a b", Kind.DIRECTORY, 0o700),
        Entry("a b/ä\udcff#\\*\n", Kind.FILE, 0o644, 3, -1_500_000_000, digest),
        Entry("a b.txt", Kind.LINK, 0o777, target="../a b"),
    ]
    assert b"".join(write(entries)) == TEXT
    assert parsed(TEXT) == entries


@given(st.sampled_from(Algorithm).flatmap(folders))
def test_round_trip(entries: list[Entry]) -> None:
    """Reading gives what was written, in the order of places."""
    text = b"".join(write(entries))
    assert parsed(text) == entries
    assert sorted(entries, key=lambda entry: place(entry.path)) == entries
    for line in text.splitlines(keepends=True)[1:]:
        assert line.isascii() and line.decode().rstrip("\n").isprintable()


@given(folders(Algorithm.SHA1), st.data())
def test_no_second_form(entries: list[Entry], data: st.DataObject) -> None:
    """A text that is changed anywhere is refused, or is exactly what its entries are written as."""
    text = b"".join(write(entries))
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, min(len(text), begin + 30)))
    piece = data.draw(
        st.sampled_from([b"", b"\n", b" ", b"/", b"..", b"0", b"\\057", b"\\141", b"-", text[begin:end] * 2])
    )
    changed = text[:begin] + piece + text[end:]
    try:
        read_back = parsed(changed)
    except MalformedTree:
        return
    assert b"".join(write(read_back)) == changed


@given(folders(Algorithm.MD5), st.randoms())
def test_another_order_is_refused(entries: list[Entry], random: Random) -> None:
    """Lines in any order but the right one are refused."""
    shuffled = list(entries)
    random.shuffle(shuffled)
    if shuffled == entries:
        assert parsed(b"".join(write(shuffled))) == entries
    else:
        with pytest.raises(MalformedTree):
            parsed(b"".join(write(shuffled)))


HOSTILE = {
    "absolute": b"/etc/passwd type=link mode=0777 link=x",
    "absolute below": b".//etc type=dir mode=0755",
    "up": b"./.. type=dir mode=0755",
    "up by escapes": rb"./\056\056 type=dir mode=0755",
    "itself": b"./. type=dir mode=0755",
    "top again": b". type=dir mode=0755",
    "no prefix": b"a type=dir mode=0755",
    "up without prefix": b"../a type=dir mode=0755",
    "empty": b" type=dir mode=0755",
    "empty name": b"./ type=dir mode=0755",
    "final slash": b"./a/ type=dir mode=0755",
    "nul": rb"./a\000 type=dir mode=0755",
    "raw nul": b"./a\0 type=dir mode=0755",
    "slash by escape": rb"./a\057..\057b type=dir mode=0755",
    "needless escape": rb"./\141 type=dir mode=0755",
    "short escape": rb"./\40 type=dir mode=0755",
    "large escape": rb"./\777 type=dir mode=0755",
    "vis escape": rb"./\sa type=dir mode=0755",
    "raw byte": b"./\xff type=dir mode=0755",
    "tab": b"./a\ttype=dir mode=0755",
    "carriage return": b"./a type=dir mode=0755\r",
    "two spaces": b"./a  type=dir mode=0755",
    "no directory": b"./a/b type=dir mode=0755",
    "unknown type": b"./a type=block mode=0755",
    "pipe": b"./a type=fifo mode=0755",
    "no type": b"./a mode=0755",
    "unknown keyword": b"./a type=dir mode=0755 uid=0",
    "flags": b"./a type=dir mode=0755 optional",
    "another order": b"./a mode=0755 type=dir",
    "setuid": b"./a type=dir mode=4755",
    "long mode": b"./a type=dir mode=00755",
    "no octal mode": b"./a type=dir mode=0788",
    "symbolic mode": b"./a type=dir mode=u+s",
    "no target": b"./a type=link mode=0777",
    "empty target": b"./a type=link mode=0777 link=",
    "nul in target": rb"./a type=link mode=0777 link=a\000b",
    "raw target": b"./a type=link mode=0777 link=a=b",
    "negative size": FILE.replace(b"size=3", b"size=-3"),
    "size with zeros": FILE.replace(b"size=3", b"size=03"),
    "hex size": FILE.replace(b"size=3", b"size=0x3"),
    "size beyond": FILE.replace(b"size=3", b"size=%d" % 2**63),
    "whole time": FILE.replace(b".123456789", b""),
    "time of microseconds": FILE.replace(b".123456789", b".123456"),
    "time beyond": FILE.replace(b"1700000000", b"%d" % 2**63),
    "time before": FILE.replace(b"1700000000", b"%d" % (-(2**63) - 1)),
    "negative zero": FILE.replace(b"1700000000", b"-0"),
    "no time": FILE.replace(b"1700000000.123456789", b"now"),
    "short hash": FILE[:-1],
    "long hash": FILE + b"0",
    "upper case hash": FILE.replace(b"ea6e", b"EA6E"),
    "no hex": FILE[:-1] + b"x",
    "non-ASCII digits": FILE.replace(b"size=3", "size=³".encode()),
    "another algorithm": FILE.replace(b"sha256digest", b"crc32digest"),
    "no algorithm": FILE.replace(b"sha256digest", b"digest"),
    "no digest": FILE.partition(b" sha256")[0],
    "comment": b"# comment",
    "set": b"/set type=file",
    "blank": b"",
    "continued": b"./a type=dir \\",
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_lines(line: bytes) -> None:
    """A line that is not exactly as `write` writes it is refused with its number."""
    with pytest.raises(MalformedTree, match="^line 3: ") as caught:
        parsed(TREE + line + b"\n./z type=dir mode=0755\n")
    assert caught.value.evidence == {"line": 3}
    assert caught.value.message.isprintable()


BAD_ORDER = {
    "twice": b"./a type=dir mode=0755\n./a type=dir mode=0755\n",
    "file twice": FILE + b"\n" + FILE + b"\n",
    "not in order": b"./b type=dir mode=0755\n./a type=dir mode=0755\n",
    "below a file": FILE + b"\n./f/a type=dir mode=0755\n",
    "below a link": b"./l type=link mode=0777 link=/etc\n./l/passwd type=link mode=0777 link=x\n",
    "not by components": b"./a type=dir mode=0755\n./a-b type=dir mode=0755\n./a/b type=dir mode=0755\n",
    "two algorithms": FILE
    + b"\n./g type=file mode=0644 size=0 time=0.000000000 md5digest=%s\n" % (b"0" * 32),
}


@pytest.mark.parametrize("text", BAD_ORDER.values(), ids=list(BAD_ORDER))
def test_hostile_order(text: bytes) -> None:
    """A path comes once, behind its directory and the smaller paths; hashes are by one algorithm."""
    count = text.count(b"\n")
    with pytest.raises(MalformedTree, match=f"^line {count + 2}: ") as caught:
        parsed(TREE + text)
    assert caught.value.evidence == {"line": count + 2}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", 1),
        (b"\n", 1),
        (b"#mtree", 1),
        (b"#mtree v2.0\n", 1),
        (b"#mtree\r\n", 1),
        (b"\xef\xbb\xbf#mtree\n", 1),
        (b"\x7fELF" * 50_000, 1),
        (b"#mtree\n", 2),
        (b"#mtree\n./a type=dir mode=0755\n", 2),
        (b"#mtree\n" + FILE + b"\n", 2),
        (b"#mtree\n. type=link mode=0777 link=/\n", 2),
        (TREE[:-1], 2),
        (TREE + FILE, 3),
        (TREE + b"./" + b"a" * LONGEST_LINE, 3),
        (TREE + b"./" + b"a" * LONGEST_LINE + b" type=dir mode=0755\n", 3),
    ],
)
def test_no_tree(text: bytes, line: int) -> None:
    """Other files, and trees that are cut off, are refused."""
    with pytest.raises(MalformedTree) as caught:
        parsed(text)
    assert caught.value.evidence == {"line": line}
    assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message


def test_entries_come_while_lines_are_read() -> None:
    """Neither direction waits for the end."""
    given_lines = iter([*TREE.splitlines(keepends=True), b"nonsense\n"])
    entries = read(given_lines)
    assert next(entries).path == "."
    with pytest.raises(MalformedTree):
        next(entries)

    def endless() -> Iterator[Entry]:
        yield Entry(".", Kind.DIRECTORY, 0o755)
        number = 0
        while True:
            number += 1
            yield Entry(f"{number:09}", Kind.DIRECTORY, 0o755)

    written = write(endless())
    assert [next(written) for _ in range(3)][-1] == b"./000000001 type=dir mode=0755\n"


def test_a_long_path() -> None:
    """The longest path and target of the file system fit, and longer ones are an error with their path."""
    longest = "/".join(["\n" * 255] * 16)
    entries = [Entry(".", Kind.DIRECTORY, 0o755)]
    parts = longest.split("/")
    entries += [Entry("/".join(parts[:count]), Kind.DIRECTORY, 0o755) for count in range(1, len(parts))]
    entries.append(Entry(longest, Kind.LINK, 0o777, target="\n" * 4095))
    assert parsed(b"".join(write(entries))) == entries
    with pytest.raises(OSError) as caught:
        list(write([Entry("\n" * LONGEST_LINE, Kind.DIRECTORY, 0o755)]))
    assert (caught.value.errno, caught.value.filename) == (errno.ENAMETOOLONG, "\n" * LONGEST_LINE)


def test_places_are_by_components() -> None:
    """The entries of a directory come before its neighbour, and bytes count, not characters."""
    paths = [".", "a", "a/b", "a/b/c", "a-b", "a.b", "ä", "\U00010000", "\udcff"]
    entries = [Entry(path, Kind.DIRECTORY, 0) for path in paths]
    assert sorted(reversed(entries), key=lambda entry: place(entry.path)) == entries
    assert list(map(attrgetter("path"), parsed(b"".join(write(entries))))) == paths
