"""Git LFS: the batch API with the cases of the tester of servers that its project has, and the rest of it."""

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webtest import TestApp

from tests.support.access import KEY, Make, bearer, line, soon
from tests.support.kinds import LocalKind, digest_of
from wsgi_store.access.grant import Grant
from wsgi_store.access.signing import Signer
from wsgi_store.assembly import create_app
from wsgi_store.choices import Protocol
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError

KIND = "application/vnd.git-lfs+json"
ON = {"protocols": (Protocol.LFS,), "hash": Algorithm.SHA256}
HELD, LACKING = [b"one", b"three"], [b"four", b"fifteen"]
TUS = {"Tus-Resumable": "1.0.0"}


def oid(data: bytes) -> str:
    """The name of an object."""
    return hashlib.sha256(data).hexdigest()


def listed(*datas: bytes) -> list[dict[str, Any]]:
    """The objects of a batch."""
    return [{"oid": oid(data), "size": len(data)} for data in datas]


@pytest.fixture
def config(config: Config) -> Config:
    """Settings for an open service with this protocol."""
    return replace(config, **ON)


@pytest.fixture(name="api")
def fixture_api(config: Config) -> TestApp:
    """The service, which holds some objects."""
    application = create_app(config)
    for data in HELD:
        application.receive(data)
    return TestApp(application)


def batch(api: TestApp, operation: str, objects: Any, status: int = 200, **more: Any) -> Any:
    """Ask for a batch; returns the answer."""
    fields = {"Content-Type": KIND, "Accept": KIND, **more.pop("headers", {})}
    path = more.pop("path", "/lfs")
    body = json.dumps({"operation": operation, "objects": objects, **more})
    answer = api.post(f"{path}/objects/batch", body, headers=fields, status=status)
    assert answer.content_type == KIND
    return answer.json


def told(answer: Any) -> dict[str, Any]:
    """What a batch tells of each object."""
    return {one["oid"]: one for one in answer["objects"]}


def test_download_all_present(api: TestApp) -> None:
    """Each object that the store holds has a URL."""
    answer = batch(api, "download", listed(*HELD))
    assert (answer["transfer"], answer["hash_algo"], len(answer["objects"])) == ("basic", "sha256", 2)
    for data, one in zip(HELD, answer["objects"], strict=True):
        href = one["actions"]["download"]["href"]
        assert one["authenticated"] and href == f"http://localhost/{oid(data)}"
        assert api.get(urlsplit(href).path).body == data


def test_download_all_missing(api: TestApp) -> None:
    """Each object that the store lacks has the error 404, and no URL."""
    answer = batch(api, "download", listed(*LACKING))
    assert [one["error"]["code"] for one in answer["objects"]] == [404, 404]
    assert not any("actions" in one for one in answer["objects"])


def test_download_mixed(api: TestApp) -> None:
    """Each object of a mixed batch gets what is right for it."""
    found = told(batch(api, "download", listed(HELD[0], LACKING[0], HELD[1], LACKING[1])))
    for data in HELD:
        assert "download" in found[oid(data)]["actions"]
    for data in LACKING:
        assert found[oid(data)]["error"]["code"] == 404


def test_upload_all_missing(api: TestApp) -> None:
    """Each object that the store lacks has a URL to upload it, and it can be verified then."""
    answer = batch(api, "upload", listed(*LACKING))
    for data, one in zip(LACKING, answer["objects"], strict=True):
        api.put(urlsplit(one["actions"]["upload"]["href"]).path, data, status=201)
        verify = urlsplit(one["actions"]["verify"]["href"]).path
        api.post(verify, json.dumps(listed(data)[0]), headers={"Content-Type": KIND}, status=200)
    assert batch(api, "upload", listed(*LACKING))["objects"] == listed(*LACKING)


def test_upload_all_present(api: TestApp) -> None:
    """No object that the store holds is sent again."""
    assert batch(api, "upload", listed(*HELD))["objects"] == listed(*HELD)


def test_upload_mixed(api: TestApp) -> None:
    """Of a mixed batch only what is missing is sent."""
    found = told(batch(api, "upload", listed(HELD[0], LACKING[0], HELD[1], LACKING[1])))
    assert all("actions" not in found[oid(data)] for data in HELD)
    assert all("upload" in found[oid(data)]["actions"] for data in LACKING)


def test_upload_edge_cases(api: TestApp) -> None:
    """Malformed names and negative sizes have the error 422, a size of 0 is right."""
    names = [
        "a345cde",
        "1234567890abcdef" * 6,
        "bf3e3e2af9366a3b704ax0c31de5afa64193ebabffde2091936ad2G7510bc03a",
    ]
    wrong = [{"oid": name, "size": 99} for name in names]
    wrong += [{"oid": oid(b"a"), "size": -1}, {"oid": oid(b"b"), "size": -125}]
    right = {"oid": oid(b"c"), "size": 0}
    answer = batch(api, "upload", [*wrong, right])
    assert [one["error"]["code"] for one in answer["objects"][:-1]] == [422] * 5
    assert [one["oid"] for one in answer["objects"]] == [one["oid"] for one in [*wrong, right]]
    assert "upload" in answer["objects"][-1]["actions"]


def test_sizes_that_are_not_so(api: TestApp) -> None:
    """An object with another size than that of the blob is refused, and an upload of another size is, too."""
    lie = {"oid": oid(HELD[0]), "size": 100}
    assert batch(api, "download", [lie])["objects"][0]["error"]["code"] == 422
    api.post("/lfs/objects/verify", json.dumps(lie), headers={"Content-Type": KIND}, status=422)
    absent = json.dumps(listed(LACKING[0])[0])
    assert api.post("/lfs/objects/verify", absent, headers={"Content-Type": KIND}, status=404).json["message"]


def test_an_object_in_quarantine(api: TestApp, config: Config) -> None:
    """A damaged blob is gone (410) until it is uploaded again."""
    digest = digest_of(Algorithm.SHA256, HELD[0])
    LocalKind(nameless=True).damage(Path(config.root), digest, b"odd")
    assert api.app.store.quarantine(digest)
    (one,) = batch(api, "download", listed(HELD[0]))["objects"]
    assert one["error"]["code"] == 410
    (one,) = batch(api, "upload", listed(HELD[0]))["objects"]
    api.put(urlsplit(one["actions"]["upload"]["href"]).path, HELD[0])
    (one,) = batch(api, "download", listed(HELD[0]))["objects"]
    assert "error" not in one


def test_another_algorithm(api: TestApp) -> None:
    """Names by another algorithm than sha256 are refused (409), each for itself."""
    (one,) = batch(api, "download", listed(HELD[0]), hash_algo="sha512")["objects"]
    assert one["error"]["code"] == 409


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"operation": "download"}', 422),
        (b'{"operation": "steal", "objects": []}', 422),
        (b'{"operation": "upload", "objects": [], "transfers": ["ssh"]}', 422),
        (json.dumps({"operation": "upload", "objects": listed(*[b"x"] * 10_001)}).encode(), 413),
    ],
    ids=["not JSON", "a list", "no objects", "an unknown operation", "an unknown transfer", "too many"],
)
def test_bad_batches(api: TestApp, body: bytes, status: int) -> None:
    """A batch that cannot be understood is refused as a whole, in words that the client shows."""
    answer = api.post("/lfs/objects/batch", body, headers={"Content-Type": KIND}, status=status)
    assert answer.content_type == KIND
    assert answer.json["message"] and answer.json["request_id"] == answer.headers["X-Request-ID"]


def test_a_form_is_refused(api: TestApp) -> None:
    """A page of another site can make a browser send forms, which are refused."""
    api.post("/lfs/objects/batch", b"{}", headers={"Content-Type": "text/plain"}, status=415)


def test_locks(api: TestApp) -> None:
    """There are no locks, and none can be made."""
    fields = {"Content-Type": KIND}
    for base in ("/lfs", "/lfs/any/path.git/info/lfs"):
        assert api.post(f"{base}/locks/verify", b"{}", headers=fields).json == {
            "ours": [],
            "theirs": [],
            "next_cursor": "",
        }
        assert api.get(f"{base}/locks").json["locks"] == []
        assert api.post(f"{base}/locks", b'{"path": "a"}', headers=fields, status=501).json["message"]
        assert api.post(f"{base}/locks/7/unlock", b"{}", headers=fields, status=501).json["message"]


def test_an_unknown_path(api: TestApp) -> None:
    """Failures at any path of the protocol are those of the protocol."""
    assert api.get("/lfs/what", status=404).content_type == KIND
    assert api.get("/lfs/objects/batch", status=405).content_type == KIND


def test_credentials(make: Make) -> None:
    """Tokens are passwords of Basic; without one the client is asked for it, and scopes count."""
    api = make(line("reader", "read"), **ON)
    plain = api.post(
        "/lfs/objects/batch",
        b'{"operation": "download", "objects": []}',
        headers={"Content-Type": KIND},
        status=401,
    )
    assert plain.headers["LFS-Authenticate"] == 'Basic realm="wsgi_store"'
    assert "WWW-Authenticate" not in plain.headers
    reader = {"Authorization": "Basic " + base64.b64encode(b"any:reader").decode()}
    batch(api, "download", [], headers=reader)
    assert batch(api, "upload", [], 403, headers=reader)["message"]
    batch(api, "upload", [], 401, headers=bearer("wrong"))
    api.post("/lfs/locks/verify", b"{}", headers={"Content-Type": KIND, **reader}, status=403)


def test_signed(make: Make) -> None:
    """A service with keys signs the URLs, which need no token then, and bind size and hash."""
    api = make(line("this", "read,write"), **ON)
    answer = batch(api, "upload", listed(LACKING[0]), headers=bearer("this"))
    action = answer["objects"][0]["actions"]["upload"]
    assert action["expires_in"] == 3600 and "header" not in action
    url = urlsplit(action["href"])
    api.put(f"{url.path}?{url.query}", b"odds", status=422)
    api.put(f"{url.path}?{url.query}", LACKING[0] + b"more", status=413)
    api.put(f"{url.path}?{url.query}", LACKING[0], status=201)
    api.put(f"{url.path}?{url.query}", LACKING[0], status=403)
    action = batch(api, "download", listed(LACKING[0]), headers=bearer("this"))["objects"][0]["actions"][
        "download"
    ]
    url = urlsplit(action["href"])
    assert api.get(f"{url.path}?{url.query}").body == LACKING[0]
    api.get(url.path, status=401)


def test_without_keys(make: Make) -> None:
    """A service that signs nothing repeats the credentials of the caller."""
    api = make(line("this", "read,write"), signing_keys=(), **ON)
    action = batch(api, "upload", listed(LACKING[0]), headers=bearer("this"))["objects"][0]["actions"][
        "upload"
    ]
    assert action["header"] == bearer("this")
    api.put(urlsplit(action["href"]).path, LACKING[0], headers=action["header"], status=201)


def test_a_writer_does_not_learn_what_is_there(make: Make) -> None:
    """Whoever may not read is asked for every object."""
    api = make(line("writer", "write"), **ON)
    api.post("/", HELD[0], headers=bearer("all"))
    (one,) = batch(api, "upload", listed(HELD[0]), headers=bearer("writer"))["objects"]
    assert "upload" in one["actions"]


def test_tus(make: Make) -> None:
    """An upload by tus is created at its first HEAD, goes on in the next batch, and is verified."""
    api = make(line("this", "read,write"), **ON)
    data = b"four and more"

    def action() -> dict[str, Any]:
        answer = batch(api, "upload", listed(data), transfers=["basic", "tus"], headers=bearer("this"))
        assert answer["transfer"] == "tus"
        found: dict[str, Any] = answer["objects"][0]["actions"]["upload"]
        return found

    first = action()
    path = urlsplit(first["href"]).path
    assert not api.app.backend.uploads.has_unfinished("('someone', None)")
    fields = {**TUS, **first["header"]}
    assert api.head(path, headers=fields).headers["Upload-Offset"] == "0"
    part = {**fields, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert api.patch(path, data[:5], headers=part, status=204).headers["Upload-Offset"] == "5"
    again = action()
    assert api.head(urlsplit(again["href"]).path, headers=fields).headers["Upload-Offset"] == "5"
    rest = {**part, "Upload-Offset": "5"}
    assert api.patch(path, data[5:], headers=rest, status=204).headers["Upload-Offset"] == str(len(data))
    assert api.get(f"/{oid(data)}", headers=bearer("this")).body == data
    assert api.head(path, headers=fields).headers["Upload-Offset"] == str(len(data))


def test_a_store_without_sha256(config: Config) -> None:
    """A store whose blobs have no such names is refused at the start."""
    with pytest.raises(ConfigError, match="WSGI_STORE_PROTOCOLS: lfs: .*sha256"):
        create_app(replace(config, hash=Algorithm.MD5))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda kinds: st.lists(kinds) | st.dictionaries(st.sampled_from(["oid", "size", "x"]), kinds),
    )
)
def test_any_object(api: TestApp, anything: Any) -> None:
    """Whatever an object is, it gets an error or an action."""
    for operation in ("upload", "download"):
        (one,) = batch(api, operation, [anything])["objects"]
        assert ("error" in one) != ("actions" in one)


def offered(api: TestApp, data: bytes, operation: str = "upload", **more: Any) -> dict[str, Any]:
    """The actions of a batch of one object."""
    (one,) = batch(api, operation, listed(data), **more)["objects"]
    actions: dict[str, Any] = one["actions"]
    return actions


def path_of(action: dict[str, Any]) -> str:
    """The path and query of an action."""
    url = urlsplit(action["href"])
    return f"{url.path}?{url.query}"


def stored(api: TestApp) -> set[str]:
    """The hashes of the blobs."""
    return {blob.digest.hex for blob in api.app.store.iterate()}


def test_further_members_are_accepted(api: TestApp) -> None:
    """Clients tell a ref, and may tell more later."""
    batch(api, "download", listed(HELD[0]), ref={"name": "refs/heads/main"}, transfers=["basic"], later=[1])
    batch(api, "download", listed(HELD[0]), ref=None, hash_algo=None)


def test_two_sizes_of_one_object(api: TestApp) -> None:
    """Of an object that a list gives two sizes, only the right one counts as held."""
    one = listed(HELD[0])[0]
    for lie in ({**one, "size": 7}, {**one, "size": 8}):
        for objects in ([one, lie], [lie, one]):
            answers = batch(api, "upload", objects)["objects"]
            for asked, answer in zip(objects, answers, strict=True):
                assert "actions" in answer or asked == one


@pytest.mark.parametrize("transfer", ["basic", "tus"])
def test_a_lie_stores_nothing(make: Make, transfer: str) -> None:
    """A file of another size or hash than those of the batch is refused, and nothing of it stays."""
    api = make(line("this", "read,write"), **ON)
    data, before = LACKING[1], stored(api)
    for size, sent in ((3, data), (3, data[:3]), (len(data), data[:-1] + b"?"), (len(data), data + b"?")):
        objects = [{"oid": oid(data), "size": size}]
        (one,) = batch(api, "upload", objects, transfers=[transfer], headers=bearer("this"))["objects"]
        path = path_of(one["actions"]["upload"])
        if transfer == "basic":
            assert api.put(path, sent, status="*").status_int in (413, 422)
        else:
            fields = {**TUS, **bearer("this"), "Content-Type": "application/offset+octet-stream"}
            answer = api.patch(path, sent, headers={**fields, "Upload-Offset": "0"}, status="*")
            assert 400 <= answer.status_int < 500
        assert stored(api) == before


def test_a_link_or_ticket_makes_no_others(make: Make) -> None:
    """A link that expires soon must not lead to later ones, nor a ticket to a second."""
    api = make(line("this", "read,write"), **ON)
    api.post("/", HELD[0], headers=bearer("this"))
    link = path_of(offered(api, HELD[0], "download", headers=bearer("this"))["download"]).partition("?")[2]
    ticket = path_of(offered(api, LACKING[0], headers=bearer("this"))["upload"]).partition("?")[2]
    for operation, data, query in (("download", HELD[0], link), ("upload", LACKING[0], ticket)):
        body = json.dumps({"operation": operation, "objects": listed(data)})
        fields = {"Content-Type": KIND}
        answer = api.post(f"/lfs/objects/batch?{query}", body, headers=fields, status=403)
        assert "token" in answer.json["message"]
    path = f"/lfs/objects/{oid(LACKING[1])}/{len(LACKING[1])}?{ticket}"
    assert api.head(path, headers=TUS, status=403)


def test_what_a_writer_learns(make: Make) -> None:
    """Whoever may not read cannot ask whether an object is there, by no request of this protocol."""
    api = make(line("writer", "write"), **ON)
    api.post("/", HELD[0], headers=bearer("all"))
    writer = bearer("writer")
    assert "verify" not in offered(api, HELD[0], headers=writer)
    for data in (HELD[0], LACKING[0]):
        body = json.dumps(listed(data)[0])
        api.post("/lfs/objects/verify", body, headers={"Content-Type": KIND, **writer}, status=403)
        path = path_of(offered(api, data, transfers=["tus"], headers=writer)["upload"])
        assert api.head(path, headers={**TUS, **writer}).headers["Upload-Offset"] == "0"


def test_a_grant_for_one_blob(config: Config) -> None:
    """A caller who may have one blob gets no others, and does not learn which are there."""
    grant = Grant(frozenset({"read", "write"}), name="host", hash=oid(HELD[0]).upper(), max_size=5)
    application = create_app(config, lambda environ: grant)
    for data in HELD:
        application.receive(data)
    api = TestApp(application)
    for operation in ("download", "upload"):
        own, *others = batch(api, operation, listed(HELD[0], HELD[1], LACKING[0]))["objects"]
        assert "error" not in own
        assert [one["error"]["code"] for one in others] == [403, 403]
    for data in (HELD[1], LACKING[0]):
        body = json.dumps(listed(data)[0])
        api.post("/lfs/objects/verify", body, headers={"Content-Type": KIND}, status=403)


def test_the_largest_file(config: Config) -> None:
    """An object that is too large is refused by the batch, before its bytes are sent."""
    grant = Grant(frozenset({"read", "write"}), name="host", max_size=10)
    for settings, authorize in (({"max_size": 10}, None), ({}, lambda environ: grant)):
        api = TestApp(create_app(replace(config, **settings), authorize))
        ok, large = batch(api, "upload", listed(b"x" * 10, b"x" * 11))["objects"]
        assert "actions" in ok and large["error"]["code"] == 413


def test_a_store_for_reading(config: Config) -> None:
    """A service that stores nothing still answers downloads."""
    create_app(config).receive(HELD[0])
    api = TestApp(create_app(replace(config, read_only=True)))
    assert "download" in offered(api, HELD[0], "download")
    assert batch(api, "upload", listed(LACKING[0]), 403)["message"] == "this store is read-only"
    fields = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    api.patch(f"/lfs/objects/{oid(b'x')}/1", b"x", headers=fields, status=403)


def test_what_everybody_may_read(make: Make) -> None:
    """Nobody needs a link for a public blob; uploads ask for a token."""
    api = make(line("this", "read,write"), public_read=True, **ON)
    api.post("/", HELD[0], headers=bearer("this"))
    for fields in ({}, bearer("this")):
        action = offered(api, HELD[0], "download", headers=fields)["download"]
        assert action == {"href": f"http://localhost/{oid(HELD[0])}"}
        assert api.get(path_of(action)).body == HELD[0]
    assert batch(api, "upload", [], 401)["message"]


def test_links_that_expire_soon(make: Make) -> None:
    """Clients are told the shortest time for which an action is valid."""
    api = make(line("this", "read,write"), link_expires=60.0, **ON)
    action = offered(api, LACKING[0], headers=bearer("this"))["upload"]
    assert action["expires_in"] == 60


def test_an_empty_object(make: Make) -> None:
    """An empty file has an offset of its whole size at once, so that the first HEAD stores it."""
    api = make(line("this", "read,write"), **ON)
    path = path_of(offered(api, b"", transfers=["tus"], headers=bearer("this"))["upload"])
    assert api.head(path, headers={**TUS, **bearer("this")}).headers["Upload-Offset"] == "0"
    assert stored(api) == {oid(b"")}


def test_uploads_of_others(make: Make) -> None:
    """An upload belongs to whoever began it: another token begins anew."""
    api = make(line("this", "read,write", "one") + line("that", "read,write", "other"), **ON)
    path = path_of(offered(api, LACKING[1], transfers=["tus"], headers=bearer("this"))["upload"])
    fields = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    api.patch(path, LACKING[1][:3], headers={**fields, **bearer("this")}, status=204)
    for token, offset in (("this", "3"), ("that", "0")):
        assert api.head(path, headers={**TUS, **bearer(token)}).headers["Upload-Offset"] == offset
    wrong = api.patch(
        path, LACKING[1][5:], headers={**fields, **bearer("this"), "Upload-Offset": "5"}, status=409
    )
    assert wrong.content_type == KIND and wrong.headers["Upload-Offset"] == "3"
    api.head(path, headers=bearer("this"), status=412)
    api.head(f"/lfs/objects/{'0' * 32}/1", headers={**TUS, **bearer("this")}, status=422)


def test_a_name_that_is_not_the_first(config: Config) -> None:
    """A store whose blobs are named by another algorithm first serves them, too."""
    config = replace(config, hash=Algorithm.BLAKE2B, names=(Algorithm.SHA256,))
    api = TestApp(create_app(config))
    api.put(path_of(offered(api, LACKING[0])["upload"]), LACKING[0], status=201)
    assert batch(api, "upload", listed(LACKING[0]))["objects"] == listed(LACKING[0])
    assert api.get(path_of(offered(api, LACKING[0], "download")["download"])).body == LACKING[0]


def test_below_a_mount(config: Config) -> None:
    """All URLs lead through the mount point, also of a repository whose name needs quotes."""
    mount = {"SCRIPT_NAME": "/m ount"}
    api = TestApp(create_app(config), extra_environ=mount)
    data = LACKING[0]
    for transfer in ("basic", "tus"):
        actions = offered(api, data, path="/lfs/gr%C3%B6%C3%9Fe/a%20b.git", transfers=[transfer])
        for action in actions.values():
            assert action["href"].startswith("http://localhost/m%20ount/")
        assert actions["verify"]["href"].endswith("/lfs/gr%C3%B6%C3%9Fe/a%20b.git/objects/verify")
    path = path_of(actions["upload"]).removeprefix("/m%20ount").rstrip("?")
    fields = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    api.patch(path, data, headers=fields, status=204)
    assert path_of(offered(api, data, "download")["download"]) == f"/m%20ount/{oid(data)}?"


def test_a_ticket_has_one_upload(make: Make) -> None:
    """A ticket may continue by tus, has one unfinished upload at a time, and none for another hash."""
    api = make(**ON)
    ticket = Signer([KEY]).ticket(soon(), hash_=oid(LACKING[1]))
    path = f"/lfs/objects/{oid(LACKING[1])}/{len(LACKING[1])}?ticket={ticket}"
    fields = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    api.patch(path, LACKING[1][:5], headers=fields, status=204)
    assert api.head(path, headers=TUS).headers["Upload-Offset"] == "5"
    api.head(f"/lfs/objects/{oid(LACKING[0])}/4?ticket={ticket}", headers=TUS, status=403)
    api.head(f"{path}&hash={oid(LACKING[0])}", headers=TUS, status=422)
    free = Signer([KEY]).ticket(soon())
    paths = [f"/lfs/objects/{oid(data)}/{len(data)}?ticket={free}" for data in LACKING]
    for path in [*paths, paths[0]]:
        api.patch(path, b"?", headers=fields, status=204)


def test_many_little_things(api: TestApp) -> None:
    """A body of very many members is refused before it takes memory."""
    body = b'{"objects": [' + b"[]," * 100_000 + b"[]]}"
    api.post("/lfs/objects/batch", body, headers={"Content-Type": KIND}, status=413)
    body = b'{"operation": "upload", "objects": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    api.post("/lfs/objects/batch", body, headers={"Content-Type": KIND}, status=400)


def test_a_disk_without_locks(api: TestApp) -> None:
    """Where uploads cannot be continued, clients are not told to try."""
    api.app.backend.uploads.lacks = "locks"
    assert batch(api, "upload", listed(LACKING[0]), transfers=["tus", "basic"])["transfer"] == "basic"
    assert batch(api, "upload", listed(LACKING[0]), 422, transfers=["tus"])["message"]
