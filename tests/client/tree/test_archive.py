"""Archives as a server sends them."""

import hashlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgi_store.client.tree.archive import BLOCK, END, Cut, files
from wsgi_store.errors import UnexpectedAnswer
from wsgi_store.web import tar

SHORT = hashlib.sha256(b"").hexdigest()
LONG = hashlib.sha512(b"").hexdigest()
BLOBS = st.lists(st.tuples(st.sampled_from([SHORT, LONG]), st.binary(max_size=2 * BLOCK)), max_size=4)


def archive(blobs: list[tuple[str, bytes]]) -> bytes:
    """An archive as the server makes it."""
    return b"".join(tar.header(name, len(data)) + data + tar.padding(len(data)) for name, data in blobs) + END


@given(blobs=BLOBS, rest=st.integers(0, 3))
def test_blobs(blobs: list[tuple[str, bytes]], rest: int) -> None:
    """Names of any length and bytes come out as they went in; zeros after the end do not matter."""
    found = [(name, bytes(data)) for name, data in files(archive(blobs) + bytes(rest * BLOCK))]
    assert found == blobs


@given(blobs=BLOBS, data=st.data())
def test_an_archive_that_is_cut(blobs: list[tuple[str, bytes]], data: st.DataObject) -> None:
    """Cut off anywhere, it gives the whole blobs before, and says that it was cut."""
    whole = archive(blobs)
    part = files(whole[: data.draw(st.integers(0, len(whole) - 1))])
    found: list[tuple[str, bytes]] = []
    with pytest.raises(Cut):
        found.extend((name, bytes(piece)) for name, piece in part)
    assert found == blobs[: len(found)]


@given(st.binary(max_size=3 * BLOCK))
def test_what_is_no_archive(data: bytes) -> None:
    """Any other bytes are refused, by exceptions that are expected."""
    try:
        assert not list(files(data))
    except (Cut, UnexpectedAnswer):
        pass


@given(blobs=BLOBS, data=st.data())
def test_an_archive_with_another_byte(blobs: list[tuple[str, bytes]], data: st.DataObject) -> None:
    """A damaged archive raises nothing but what is expected, and gives no more bytes than it has."""
    damaged = bytearray(archive(blobs))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    size = 0
    try:
        for _, piece in files(damaged):
            size += len(piece)
    except (Cut, UnexpectedAnswer):
        pass
    assert size <= len(damaged)


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_other_members(format_: int, kind: bytes) -> None:
    """Links, devices and directories are refused, by whatever tar they were made."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_) as made:
        member = tarfile.TarInfo(SHORT)
        member.type, member.linkname = kind, "/etc/passwd"
        made.addfile(member)
    with pytest.raises(UnexpectedAnswer):
        list(files(file.getvalue()))
