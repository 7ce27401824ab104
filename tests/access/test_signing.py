"""Signed links and upload tickets, in process."""

import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.access import HELLO, KEY, Make, bearer, code, soon
from wsgi_store.access.signing import Signer
from wsgi_store.errors import Denied

OTHER_KEY = "another-key-as-long"


def test_link(make: Make) -> None:
    """A link opens one blob for reading until it expires, and nothing else."""
    client = make()
    client.post("/", b"hello", headers=bearer("all"))
    link = Signer([KEY]).link(HELLO, soon())
    answer = client.get(f"/{HELLO}?link={link}")
    assert answer.body == b"hello"
    assert answer.headers["Cache-Control"].startswith("private,")
    assert client.get(f"/?hash={HELLO.upper()}&link={link}").body == b"hello"
    client.head(f"/{HELLO}/any.txt?link={link}")
    assert code(client.get(f"/{'0' * 64}?link={link}", status=403)) == "denied"
    client.delete(f"/{HELLO}?link={link}", status=403)
    client.post(f"/?link={link}", b"x", status=403)
    client.get(f"/files?link={link}", status=403)
    late = Signer([KEY]).link(HELLO, int(time.time()) - 1)
    assert "expired" in client.get(f"/{HELLO}?link={late}", status=403).json["detail"]


def test_link_with_a_name(make: Make) -> None:
    """A link may be limited to one file name."""
    client = make()
    client.post("/", b"hello", headers=bearer("all"))
    link = Signer([KEY]).link(HELLO, soon(), "a b.txt")
    answer = client.get(f"/{HELLO}/a%20b.txt?link={link}")
    assert "a b.txt" in answer.headers["Content-Disposition"]
    client.get(f"/{HELLO}/evil.exe?link={link}", status=403)


def test_keys_rotate() -> None:
    """The last key signs; earlier ones still verify, removed ones do not."""
    old, both, new = Signer([KEY]), Signer([KEY, OTHER_KEY]), Signer([OTHER_KEY])
    assert both.read_link(old.link(HELLO, soon())).hash == HELLO
    assert new.read_link(both.link(HELLO, soon())).hash == HELLO
    with pytest.raises(Denied):
        new.read_link(old.link(HELLO, soon()))


def test_purposes_are_apart(tmp_path: Path) -> None:
    """A link is no ticket, and a ticket is no link."""
    signer = Signer([KEY])
    with pytest.raises(Denied):
        signer.read_ticket(signer.link(HELLO, soon()), str(tmp_path))
    with pytest.raises(Denied):
        signer.read_link(signer.ticket(soon()))


@given(st.data())
def test_a_changed_link_is_not_genuine(data: st.DataObject) -> None:
    """Changing a link's characters never changes what it permits."""
    signer = Signer([KEY])
    # Always the same link: the length varies with the time in it, and Hypothesis repeats what it drew.
    link = signer.link(HELLO, 2**32)
    place = data.draw(st.integers(0, len(link) - 1))
    changed = link[:place] + data.draw(st.text(max_size=3)) + link[place + 1 :]
    try:
        grant = signer.read_link(changed)
    except Denied:
        return
    # Base64 has several spellings of one signature; the signed text must be the same.
    assert changed.rpartition(".")[0] == link.rpartition(".")[0]
    assert grant.hash == HELLO


@pytest.mark.parametrize("expires", [math.inf, math.nan])
def test_no_time_at_all(expires: float) -> None:
    """Links and tickets must have a finite expiry time."""
    with pytest.raises(ValueError, match="^expires: "):
        Signer([KEY]).ticket(expires)
    with pytest.raises(ValueError, match="^expires: "):
        Signer([KEY]).link(HELLO, expires)
