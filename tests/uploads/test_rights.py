"""Who may create an upload, go on with it and have its file stored."""

import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from webtest import TestApp

from tests.support.access import KEY, Make, bearer, code, line, maker
from wsgi_store.access import tickets
from wsgi_store.access.grant import Grant
from wsgi_store.access.signing import Signer
from wsgi_store.access.tickets import UsedTickets
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.errors import Denied
from wsgi_store.uploads import part

DATA = b"a file that is uploaded in pieces"
HASH = hashlib.sha256(DATA).hexdigest()
TUS = {"Tus-Resumable": "1.0.0"}
LENGTH = {**TUS, "Upload-Length": str(len(DATA))}


@pytest.fixture(name="config")
def fixture_config(tmp_path: Path) -> Config:
    """The settings of a service."""
    return Config(root=str(tmp_path / "store"))


@pytest.fixture
def make(config: Config, tmp_path: Path) -> Make:
    """Makes services with tokens."""
    return maker(config, tmp_path / "tokens")


class During(io.BytesIO):
    """A body whose first bytes are read before something happens, and the rest after it."""

    def __init__(self, act: Callable[[], object], first: int = 0) -> None:
        super().__init__(DATA)
        self._act = act
        self._first = first

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and act in between."""
        if self._first and not self.tell():
            return super().read(self._first)
        if self.tell() == self._first:
            self._act()
        return super().read(size)

    def send(self, client: TestApp, url: str, status: int, headers: dict[str, str] | None = None) -> Any:
        """Send it as the whole file."""
        fields = {
            **TUS,
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": "0",
            **(headers or {}),
        }
        environ = {"wsgi.input": self, "CONTENT_LENGTH": str(len(DATA))}
        return client.request(url, method="PATCH", headers=fields, environ=environ, status=status)


def patch(client: TestApp, url: str, start: int = 0, end: int | None = None, **options: Any) -> Any:
    """Send some of the bytes."""
    headers = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(start)}
    headers |= options.pop("headers", {})
    return client.patch(url, DATA[start:end], headers=headers, **options)


def test_another_caller(make: Make) -> None:
    """Another caller learns nothing of an upload, even if its token may do everything."""
    client = make(line("a", "write", "ann") + line("b", "read,write,delete,list,admin", "ben"))
    url = client.post("/uploads", headers={**LENGTH, **bearer("a")}).headers["Location"]
    for ask in (client.get, client.head, client.delete):
        ask(url, headers={**TUS, **bearer("b")}, status=404)
    assert code(patch(client, url, headers=bearer("b"), status=404)) == "upload_not_found"
    never = f"{url[:-32]}{'0' * 32}"
    missing, anothers = (client.get(one, headers=bearer("b"), status=404).json for one in (never, url))
    assert missing == anothers
    assert client.head(url, headers={**TUS, **bearer("a")}).headers["Upload-Offset"] == "0"


def test_a_renewed_token(make: Make) -> None:
    """A caller with a new secret continues its uploads."""
    client = make(line("old", "write", "ann"))
    url = client.post("/uploads", headers={**LENGTH, **bearer("old")}).headers["Location"]
    patch(client, url, 0, 10, headers=bearer("old"))
    client = make(line("new", "write", "ann"))
    patch(client, url, 10, headers=bearer("old"), status=401)
    assert patch(client, url, 10, headers=bearer("new")).headers["Content-Location"] == f"/{HASH}"


@pytest.mark.parametrize("scopes", ["read", "read,delete,list,admin"])
def test_without_the_right_to_write(make: Make, scopes: str) -> None:
    """Uploads are not for callers who may not write, for links, and for callers without a token."""
    client = make(line("t", scopes, "tom"))
    url = client.post("/uploads", headers={**LENGTH, **bearer("all")}).headers["Location"]
    link = Signer([KEY]).link(HASH, time.time() + 60)
    for query, headers, status in (("", bearer("t"), 403), (f"?link={link}", {}, 403), ("", {}, 401)):
        client.post(f"/uploads{query}", headers={**LENGTH, **headers}, status=status)
        for ask in (client.get, client.head, client.delete):
            ask(f"{url}{query}", headers={**TUS, **headers}, status=status)
        patch(client, f"{url}{query}", headers=headers, status=status)


def test_rights_that_end_meanwhile(make: Make, tmp_path: Path) -> None:
    """A file is stored only if its caller may still do that at its end; the upload is kept."""
    client = make(line("t", "write", "tom"))
    url = client.post("/uploads", headers={**LENGTH, **bearer("t")}).headers["Location"]
    tokens = tmp_path / "tokens"
    before = tokens.read_text()

    during = During(lambda: tokens.write_text(line("all", "list")))
    assert code(during.send(client, url, 401, bearer("t"))) == "unauthenticated"
    assert client.get("/files", headers=bearer("all")).json["files"] == []
    client.head(url, headers={**TUS, **bearer("t")}, status=401)
    tokens.write_text(before)
    # Now it may, and all bytes are there.
    told = client.get(url, headers=bearer("t")).json
    assert (told["hash"], told["created"]) == (HASH, True)


@pytest.mark.parametrize(
    "changed", [Grant(frozenset({"write"}), name="other"), Grant(frozenset(), name="me")]
)
def test_a_host_application(config: Config, changed: Grant) -> None:
    """The grants of a host application decide each time; their names distinguish callers."""
    grants = {"me": Grant(frozenset({"write"}), name="me"), "you": Grant(frozenset({"write"}), name="you")}
    client = TestApp(create_app(config, authorize=lambda environ: grants[environ["HTTP_X_USER"]]))
    me, you = {"X-User": "me"}, {"X-User": "you"}
    url = client.post("/uploads", headers={**LENGTH, **me}).headers["Location"]
    client.head(url, headers={**TUS, **you}, status=404)

    during = During(lambda: grants.update(me=changed))
    assert code(during.send(client, url, 403, me)) == "denied"
    assert client.head(url, headers={**TUS, **you}, status=404)
    grants["me"] = Grant(frozenset({"write"}), name="me")
    assert client.get(url, headers=me).json["hash"] == HASH


def test_owners() -> None:
    """No two callers have the same owner, whatever their names are."""
    grants = [
        Grant(frozenset(), name="a"),
        Grant(frozenset()),
        Grant(frozenset(), name="a", identity="b"),
        Grant(frozenset(), name="a b"),
        Grant(frozenset(), name="a", identity=""),
        Grant(frozenset(), name="None"),
    ]
    assert len({grant.owner for grant in grants}) == len(grants)


def ticket(**conditions: Any) -> str:
    """A query with a ticket."""
    return "?ticket=" + Signer([KEY]).ticket(conditions.pop("expires", time.time() + 60), **conditions)


def test_a_ticket_is_for_one_file(make: Make) -> None:
    """It creates an upload and continues it, and is used up when the file is stored."""
    client = make()
    query = ticket()
    url = client.post(f"/uploads{query}", headers=LENGTH).headers["Location"] + query
    patch(client, url, 0, 10)
    client.get(f"{url.partition('?')[0]}{ticket()}", status=404)
    assert client.head(url, headers=TUS).headers["Upload-Offset"] == "10"
    patch(client, url, 10)
    assert client.get(url).json["hash"] == HASH
    for path, headers in (("/", {}), ("/uploads", {**TUS, "Upload-Length": "0"})):
        assert "used" in client.post(f"{path}{query}", b"", headers=headers, status=403).json["detail"]


def test_the_answer_to_a_ticket_is_told_again(make: Make) -> None:
    """Who announced the content, and lost the answer to the last byte, gets it from another creation."""
    client = make()
    query = f"{ticket()}&hash={HASH}"
    url = client.post(f"/uploads{query}", headers=LENGTH).headers["Location"]
    patch(client, f"{url}{query}")
    again = client.post(f"/uploads{query}", headers=LENGTH, status=201)
    assert (again.headers["Location"], again.headers["Upload-Offset"]) == (url, str(len(DATA)))


def test_a_ticket_has_one_unfinished_upload(make: Make, config: Config) -> None:
    """A new one replaces it, since no client can continue an upload whose URL it never got."""
    client = make()
    query = ticket()
    first, second = (client.post(f"/uploads{query}", headers=LENGTH).headers["Location"] for _ in range(2))
    client.head(f"{first}{query}", headers=TUS, status=404)
    patch(client, f"{second}{query}", 0, 5)
    # The same content is the same upload.
    hashed = f"{query}&hash={HASH}"
    third = client.post(f"/uploads{hashed}", headers=LENGTH).headers["Location"]
    patch(client, f"{third}{query}", 0, 5)
    assert client.post(f"/uploads{hashed}", headers=LENGTH).headers["Upload-Offset"] == "5"
    (own,) = Path(config.root, ".uploads").glob("[!.]*")
    assert len(list(own.glob("[!.]*"))) == 1


def test_one_that_is_being_received(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not replaced while its bytes arrive."""
    monkeypatch.setattr(part, "PATIENCE", 0.0)
    client = make()
    query = ticket()
    url = client.post(f"/uploads{query}", headers=LENGTH).headers["Location"] + query
    answers = []
    during = During(
        lambda: answers.append(client.post(f"/uploads{query}", headers=LENGTH, status="*").status_int), 20
    )
    during.send(client, url, 204)
    assert answers == [423]


def test_what_a_ticket_limits(make: Make) -> None:
    """Its largest size and its hash hold for uploads in pieces, also if the length comes later."""
    client = make()
    query = ticket(max_size=len(DATA) - 1)
    client.post(f"/uploads{query}", headers=LENGTH, status=413)
    later = {**TUS, "Upload-Defer-Length": "1"}
    url = client.post(f"/uploads{query}", headers=later).headers["Location"] + query
    assert patch(client, url, status=413).json["limit"] == len(DATA) - 1
    patch(client, url, 0, 5)
    patch(client, url, 5, 6, headers={"Upload-Length": str(len(DATA))}, status=413)
    patch(client, url, 5, status=413)
    assert client.head(url, headers=TUS).headers["Upload-Offset"] == "5"
    query = ticket(hash_=hashlib.sha256(b"another").hexdigest())
    url = client.post(f"/uploads{query}", headers=LENGTH).headers["Location"] + query
    assert code(patch(client, url, status=422)) == "digest_mismatch"
    client.head(url, headers=TUS, status=404)
    query = ticket(hash_=HASH)
    url = client.post(f"/uploads{query}", headers=LENGTH).headers["Location"] + query
    patch(client, url, status=204)


def test_a_ticket_that_expires_meanwhile(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload continues after its ticket expired, for as long as a POST that began in time may last."""
    now = time.time()
    clock = SimpleNamespace(time=lambda: now, monotonic=time.monotonic, sleep=time.sleep)
    for name in ("access.grant", "access.signing", "access.tickets", "uploads.upload"):
        monkeypatch.setattr(f"wsgi_store.{name}.time", clock)
    client = make(upload_expires=10 * tickets.REMEMBERED)
    query, other = ticket(expires=now + 60), ticket(expires=now + 60)
    urls = [client.post(f"/uploads{one}", headers=LENGTH).headers["Location"] + one for one in (query, other)]
    now += 61
    assert "expired" in client.post(f"/uploads{query}", headers=LENGTH, status=403).json["detail"]
    assert "expired" in client.post(f"/{query}", DATA, status=403).json["detail"]
    patch(client, urls[0], 0, 10)
    assert client.head(urls[0], headers=TUS).headers["Upload-Offset"] == "10"
    now += tickets.REMEMBERED - 2
    patch(client, urls[0], 10, status=204)
    now += 2
    client.head(urls[1], headers=TUS, status=403)
    assert "expired" in patch(client, urls[1], status=403).json["detail"]


def test_an_upload_of_a_ticket_expires_with_it(make: Make) -> None:
    """The time told for it is not later than the ticket can be used."""
    client = make(upload_expires=10 * tickets.REMEMBERED)
    expires = time.time() + 60
    query = ticket(expires=expires)
    url = client.post(f"/uploads{query}", headers=LENGTH).headers["Location"] + query
    assert expires - 1 < client.get(url).json["expires"] - tickets.REMEMBERED <= expires + 1


def test_a_used_ticket_whose_process_was_killed(tmp_path: Path) -> None:
    """The upload for which a ticket was used may use it again, and no other one."""
    used = UsedTickets(str(tmp_path / "used"))
    grant = Signer([KEY]).read_ticket(Signer([KEY]).ticket(time.time() + 60), used)
    one = grant.ticket
    assert isinstance(one, tickets.Ticket)
    mine, others = one.of_upload("mine"), one.of_upload("others")
    mine.__enter__()  # pylint: disable=unnecessary-dunder-call  # killed before it ends
    with mine:
        pass
    for refused in (others, one):
        with pytest.raises(Denied, match="used"), refused:
            pass
    with pytest.raises(RuntimeError), mine:
        raise RuntimeError
    # It was given back.
    with one:
        pass
    with pytest.raises(Denied, match="used"), mine:
        pass


def test_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a ticket is used up without telling by which upload."""
    used = UsedTickets(str(tmp_path / "used"))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr("os.symlink", refuse)
    used.add("one", 10**11, "upload")
    with pytest.raises(Denied, match="used"):
        used.add("one", 10**11, "upload")

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.symlink", fail)
    with pytest.raises(Exception, match="Input/output error"):
        used.add("other", 10**11, "upload")


def test_public_reading_counts_for_tickets(make: Make) -> None:
    """Where everybody may read, a ticket is answered without bytes, and used up by that."""
    client = make(public_read=True)
    client.post("/", DATA, headers=bearer("all"))
    query = f"{ticket()}&hash={HASH}"
    answer = client.post(f"/uploads{query}", headers=LENGTH)
    assert answer.headers["Upload-Offset"] == str(len(DATA))
    assert "used" in client.post(f"/{query}", DATA, status=403).json["detail"]
