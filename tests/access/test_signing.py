"""Signed links and upload tickets, in process."""

import math
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.access import HELLO, KEY, Make, bearer, code, maker, soon
from wsgi_store.access import tickets
from wsgi_store.access.signing import Signer
from wsgi_store.config import Config
from wsgi_store.errors import Denied

OTHER_KEY = "another-key-as-long"


@pytest.fixture(name="make")
def _make(config: Config, tmp_path: Path) -> Make:
    return maker(config, tmp_path / "tokens")


def test_link(make: Make) -> None:
    """A link opens one blob for reading, until it expires, and nothing else."""
    client = make()
    client.post("/", b"hello", headers=bearer("all"))
    link = Signer([KEY]).link(HELLO, soon())
    answer = client.get(f"/{HELLO}?link={link}")
    assert answer.body == b"hello"
    assert answer.headers["Cache-Control"].startswith("private,")
    assert client.get(f"/?hash={HELLO.upper()}&link={link}").body == b"hello"
    client.head(f"/{HELLO}/any.txt?link={link}")
    assert code(client.get(f"/{'0' * 32}?link={link}", status=403)) == "denied"
    client.delete(f"/{HELLO}?link={link}", status=403)
    client.post(f"/?link={link}", b"x", status=403)
    client.get(f"/files?link={link}", status=403)
    late = Signer([KEY]).link(HELLO, int(time.time()) - 1)
    assert "expired" in client.get(f"/{HELLO}?link={late}", status=403).json["detail"]


def test_link_with_a_name(make: Make) -> None:
    """A link may hold the blob to one file name."""
    client = make()
    client.post("/", b"hello", headers=bearer("all"))
    link = Signer([KEY]).link(HELLO, soon(), "a b.txt")
    answer = client.get(f"/{HELLO}/a%20b.txt?link={link}")
    assert "a b.txt" in answer.headers["Content-Disposition"]
    client.get(f"/{HELLO}/evil.exe?link={link}", status=403)


def test_keys_rotate() -> None:
    """The last key signs, earlier ones still verify, removed ones do not."""
    old, both, new = Signer([KEY]), Signer([KEY, OTHER_KEY]), Signer([OTHER_KEY])
    assert both.read_link(old.link(HELLO, soon())).hash == HELLO
    assert new.read_link(both.link(HELLO, soon())).hash == HELLO
    with pytest.raises(Denied):
        new.read_link(old.link(HELLO, soon()))


def test_purposes_are_apart(tmp_path: Path) -> None:
    """A link is no ticket, and a ticket no link."""
    signer = Signer([KEY])
    with pytest.raises(Denied):
        signer.read_ticket(signer.link(HELLO, soon()), str(tmp_path))
    with pytest.raises(Denied):
        signer.read_link(signer.ticket(soon()))


@given(st.data())
def test_a_changed_link_is_not_genuine(data: st.DataObject) -> None:
    """No change of a link's characters makes another link of it."""
    signer = Signer([KEY])
    link = signer.link(HELLO, soon())
    place = data.draw(st.integers(0, len(link) - 1))
    changed = link[:place] + data.draw(st.text(max_size=3)) + link[place + 1 :]
    try:
        grant = signer.read_link(changed)
    except Denied:
        return
    # A signature can be written in several ways, base64 being what it is; what it signs cannot.
    assert changed.rpartition(".")[0] == link.rpartition(".")[0]
    assert grant.hash == HELLO


def test_ticket_is_for_one_upload(make: Make) -> None:
    """A ticket takes one upload; failed ones do not use it up."""
    client = make()
    ticket = Signer([KEY]).ticket(time.time() + 600.5, max_size=5)
    client.post(f"/?ticket={ticket}&hash={'0' * 32}", b"12345", status=422)
    assert client.post(f"/?ticket={ticket}", b"123456", status=413).json["limit"] == 5
    client.post(f"/?ticket={ticket}&hash={'0' * 31}", b"12345", status=400)
    assert client.post(f"/?ticket={ticket}", b"hello").json["created"]
    answer = client.post(f"/?ticket={ticket}", b"other", status=403)
    assert "used" in answer.json["detail"]
    assert client.get("/files", headers=bearer("all")).json["files"] == [
        {"hash": HELLO, "size": 5, "url": f"/{HELLO}"}
    ]
    client.get(f"/{HELLO}?ticket={ticket}", status=403)


def test_an_upload_that_is_not_published_leaves_its_ticket(make: Make, config: Config) -> None:
    """When the store fails at the last moment the same ticket is good for another attempt."""
    client = make()
    ticket = Signer([KEY]).ticket(soon())
    shard = Path(config.root, HELLO[:2])
    shard.touch()
    assert code(client.post(f"/?ticket={ticket}", b"hello", status=503)) == "store_unavailable"
    shard.unlink()
    assert client.post(f"/?ticket={ticket}", b"hello").json["created"]
    client.post(f"/?ticket={ticket}", b"hello", status=403)


def test_uploads_that_end_after_their_ticket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several uploads that begin in time and end later one takes the ticket; much later none does."""
    now = time.time()
    signer = Signer([KEY])
    clock = SimpleNamespace(time=lambda: now)
    monkeypatch.setattr("wsgi_store.access.signing.time", clock)
    used = tickets.Tickets(str(tmp_path / "used"))
    ticket, another = signer.ticket(now + 60), signer.ticket(now + 60)
    spends = [signer.read_ticket(text, used).spend for text in (ticket, ticket, another)]
    now += 600
    assert all(spends)
    spends[0]()
    with pytest.raises(Denied, match="used"):
        spends[1]()
    now += tickets.REMEMBERED
    with pytest.raises(Denied, match="expired"):
        spends[2]()


@pytest.mark.parametrize("expires", [math.inf, math.nan])
def test_no_time_at_all(expires: float) -> None:
    """What never expires is not signed."""
    with pytest.raises(ValueError, match="^expires: "):
        Signer([KEY]).ticket(expires)
    with pytest.raises(ValueError, match="^expires: "):
        Signer([KEY]).link(HELLO, expires)


def test_ticket_for_one_file(make: Make) -> None:
    """A ticket may be for one hash only, in a form as well."""
    client = make()
    ticket = Signer([KEY]).ticket(soon(), hash_=HELLO)
    assert code(client.post(f"/?ticket={ticket}", b"others", status=422)) == "digest_mismatch"
    ticket = Signer([KEY]).ticket(soon(), max_size=5, hash_=HELLO)
    client.post(f"/?ticket={ticket}", upload_files=[("file", "x", b"hello!")], status=413)
    assert client.post(f"/?ticket={ticket}", upload_files=[("file", "x", b"hello")]).json["created"]


def test_ticket_expires(make: Make) -> None:
    """An expired ticket takes nothing."""
    client = make()
    ticket = Signer([KEY]).ticket(int(time.time()) - 1)
    assert "expired" in client.post(f"/?ticket={ticket}", b"x", status=403).json["detail"]


def test_tickets_that_an_older_version_saw_used(
    make: Make, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay used after an upgrade, also when they were moved, and are forgotten in their time."""
    monkeypatch.setattr(tickets, "AT_ONCE", 3)
    client, signer, directory, expires = make(), Signer([KEY]), Path(config.root, ".tickets"), soon()
    texts = [signer.ticket(expires) for _ in range(5)]
    for text in texts:
        client.post(f"/?ticket={text}", b"x")
    for path in directory.glob("*/*"):
        path.rename(directory / f"{math.ceil(expires)}-{path.name}")
    over = int(time.time()) - tickets.REMEMBERED - 2 * tickets.HOUR
    (directory / f"{over}-over").touch()
    (directory / f"{over}-a directory").mkdir()
    for _ in range(6):
        for text in texts:
            assert "used" in client.post(f"/?ticket={text}", b"x", status=403).json["detail"]
        # By another process: one looks again after a minute, unless there was more.
        make().post(f"/?ticket={signer.ticket(soon())}", b"x")
    assert not [name for name in os.listdir(directory) if "-" in name]
    hour = directory / str(over // tickets.HOUR)
    assert os.listdir(hour) == ["a directory"]


def test_used_tickets_are_forgotten_when_expired(
    make: Make, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered of used tickets does not grow for ever, and no upload clears up after all others."""
    monkeypatch.setattr(tickets, "AT_ONCE", 10)
    client = make()
    directory = Path(config.root, ".tickets")
    old = directory / str((int(time.time()) - tickets.REMEMBERED) // tickets.HOUR - 1)
    old.mkdir(parents=True)
    for number in range(25):
        (old / str(number)).touch()
    (directory / "nothing of ours").touch()
    left = []
    for number in range(4):
        client.post(f"/?ticket={Signer([KEY]).ticket(soon())}", str(number).encode())
        left.append(len(os.listdir(old)) if old.exists() else 0)
    assert left == [15, 5, 0, 0]
    assert not old.exists()
    # Another look is taken a minute later.
    old.mkdir()
    client.post(f"/?ticket={Signer([KEY]).ticket(soon())}", b"x")
    assert old.exists()
