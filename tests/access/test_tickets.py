"""Each ticket allows one upload."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.access import HELLO, KEY, Make, bearer, code, soon
from wsgi_store.access import tickets
from wsgi_store.access.signing import Signer
from wsgi_store.config import Config
from wsgi_store.errors import Denied


def test_ticket_is_for_one_upload(make: Make) -> None:
    """A ticket allows one successful upload; failed ones do not use it up."""
    client = make()
    ticket = Signer([KEY]).ticket(time.time() + 600.5, max_size=5)
    client.post(f"/?ticket={ticket}&hash={'0' * 64}", b"12345", status=422)
    assert client.post(f"/?ticket={ticket}", b"123456", status=413).json["limit"] == 5
    client.post(f"/?ticket={ticket}&hash={'0' * 31}", b"12345", status=400)
    assert client.post(f"/?ticket={ticket}", b"hello").json["created"]
    answer = client.post(f"/?ticket={ticket}", b"other", status=403)
    assert "used" in answer.json["detail"]
    assert [row["hash"] for row in client.get("/files", headers=bearer("all")).json["files"]] == [HELLO]
    client.get(f"/{HELLO}?ticket={ticket}", status=403)


def test_an_upload_that_is_not_published_leaves_its_ticket(make: Make, config: Config) -> None:
    """If publication fails, the ticket can be used again."""
    client = make()
    ticket = Signer([KEY]).ticket(soon())
    shard = Path(config.root, HELLO[:2])
    shard.touch()
    assert code(client.post(f"/?ticket={ticket}", b"hello", status=503)) == "store_unavailable"
    shard.unlink()
    assert client.post(f"/?ticket={ticket}", b"hello").json["created"]
    client.post(f"/?ticket={ticket}", b"hello", status=403)


def test_uploads_that_end_after_their_ticket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload may end up to a day after its ticket expires, and one ticket still allows just one."""
    now = time.time()
    signer = Signer([KEY])
    clock = SimpleNamespace(time=lambda: now, monotonic=time.monotonic)
    monkeypatch.setattr("wsgi_store.access.signing.time", clock)
    monkeypatch.setattr("wsgi_store.access.tickets.time", clock)
    used = tickets.UsedTickets(str(tmp_path / "used"))
    ticket, another = signer.ticket(now + 60), signer.ticket(now + 60)
    first, second, late = (signer.read_ticket(text, used).ticket for text in (ticket, ticket, another))
    assert first and second and late
    now += 600
    with first:
        pass
    with pytest.raises(Denied, match="used"), second:
        pass
    now += tickets.REMEMBERED
    with pytest.raises(Denied, match="expired"), late:
        pass


def test_ticket_for_one_file(make: Make) -> None:
    """A ticket may be limited to one hash, for forms as well."""
    client = make()
    ticket = Signer([KEY]).ticket(soon(), hash_=HELLO)
    assert code(client.post(f"/?ticket={ticket}", b"others", status=422)) == "digest_mismatch"
    ticket = Signer([KEY]).ticket(soon(), max_size=5, hash_=HELLO)
    client.post(f"/?ticket={ticket}", upload_files=[("file", "x", b"hello!")], status=413)
    assert client.post(f"/?ticket={ticket}", upload_files=[("file", "x", b"hello")]).json["created"]


def test_ticket_expires(make: Make) -> None:
    """An expired ticket is refused."""
    client = make()
    ticket = Signer([KEY]).ticket(int(time.time()) - 1)
    assert "expired" in client.post(f"/?ticket={ticket}", b"x", status=403).json["detail"]


def test_used_tickets_are_forgotten_when_expired(make: Make, config: Config) -> None:
    """Expired tickets are forgotten, a limited number with each upload."""
    client = make()
    directory = Path(config.root, ".tickets")
    old = directory / str((int(time.time()) - tickets.REMEMBERED) // tickets.HOUR - 1)
    old.mkdir(parents=True)
    for number in range(250):
        (old / str(number)).touch()
    (directory / "nothing of ours").touch()
    left = []
    for number in range(4):
        client.post(f"/?ticket={Signer([KEY]).ticket(soon())}", str(number).encode())
        left.append(len(os.listdir(old)) if old.exists() else 0)
    assert left == [150, 50, 0, 0]
    assert not old.exists()
    # The next sweep is a minute later.
    old.mkdir()
    client.post(f"/?ticket={Signer([KEY]).ticket(soon())}", b"x")
    assert old.exists()
