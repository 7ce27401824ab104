"""Protocols that are named in the settings: their URLs, their description, and what they need."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.support.access import ALL, bearer, line
from tests.support.calling import Untouched, call
from wsgi_store.assembly import create_app
from wsgi_store.choices import MetricsAccess, Protocol
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError
from wsgi_store.protocols import dvc, lfs
from wsgi_store.web.application import Application
from wsgi_store.web.routing import Route

OWN = {Protocol.LFS: lfs, Protocol.DVC: dvc}
NEEDED = {Protocol.LFS: Algorithm.SHA256, Protocol.DVC: Algorithm.MD5}
# A path of each, with the methods that are allowed there.
PATHS = {
    "/lfs/objects/batch": "OPTIONS, POST",
    "/lfs/a/b.git/objects/batch": "OPTIONS, POST",
    "/lfs/locks": "GET, HEAD, OPTIONS, POST",
    f"/lfs/objects/{'0' * 64}/5": "HEAD, OPTIONS, PATCH",
    f"/dvc/files/md5/00/{'0' * 30}": "GET, HEAD, OPTIONS, POST, PUT",
}
METHODS = ("get", "head", "post", "put", "patch", "delete")


@pytest.fixture(name="served", scope="module")
def fixture_served(tmp_path_factory: pytest.TempPathFactory) -> Application:
    """A service with all protocols that share its URLs, which requires tokens."""
    directory = tmp_path_factory.mktemp("served")
    (directory / "tokens").write_text(line("all", ALL))
    config = Config(root=str(directory / "store"), min_free=0, tokens=str(directory / "tokens"))
    config = replace(config, names=(Algorithm.MD5,), protocols=tuple(OWN), metrics=MetricsAccess.PUBLIC)
    return create_app(config)


def rows(application: Application) -> Iterator[tuple[Protocol, Route]]:
    """The routes of each protocol."""
    for protocol, module in OWN.items():
        for route in module.routes(application.backend)[0]:
            yield protocol, route


def test_off(config: Config) -> None:
    """Without the setting their paths are like any others."""
    application = create_app(config)
    for path in PATHS:
        answer = call(application, "POST", path, body=Untouched(b"{}"))
        assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert not [path for path in call(application, path="/openapi.json").json["paths"] if path in PATHS]


@pytest.mark.parametrize("path", PATHS)
def test_on(served: Application, path: str) -> None:
    """Each path knows its methods, and nobody gets further without a token."""
    assert call(served, "OPTIONS", path).headers["Allow"] == PATHS[path]
    wrong = call(served, "DELETE", path, **{"HTTP_AUTHORIZATION": "Bearer all"})
    assert (wrong.status, wrong.headers["Allow"]) == (405, PATHS[path])
    for method in set(PATHS[path].split(", ")) - {"OPTIONS", "HEAD"}:
        answer = call(served, method, path, body=b"{}", CONTENT_TYPE=lfs.KIND)
        assert (answer.status, answer.json["code"]) == (401, "unauthenticated"), method


@pytest.mark.parametrize("protocol", OWN)
def test_a_store_without_such_names(config: Config, protocol: Protocol) -> None:
    """A directory whose blobs have no such names is refused at start, in one line that says so."""
    other = Algorithm.SHA512
    with pytest.raises(ConfigError) as refused:
        create_app(replace(config, hash=other, protocols=(protocol,)))
    named = NEEDED[protocol].value
    assert str(refused.value) == (
        f"WSGI_STORE_PROTOCOLS: {protocol.value}: the store has no names by {named} "
        "(WSGI_STORE_HASH, WSGI_STORE_NAMES)"
    )
    create_app(
        replace(config, names=(NEEDED[protocol],), hash=other, root=f"{config.root}-2", protocols=(protocol,))
    )


def test_metrics_name_the_route(served: Application) -> None:
    """Requests are counted by the route, not by the path that a client chose."""
    call(served, "POST", "/lfs/some/repository/objects/batch")
    counted = call(served, path="/metrics").body.decode()
    assert 'route="/lfs/{repository}/objects/batch"' in counted and "some/" not in counted


def test_they_are_described(served: Application) -> None:
    """openapi.json describes each URL of the protocols, and is valid."""
    document: dict[str, Any] = call(served, path="/openapi.json").json
    validate(document)
    own = call(create_app(replace(served.config, protocols=())), path="/openapi.json").json
    described = {
        (path, method)
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item and path not in own["paths"]
    }
    wanted = set()
    for _, route in rows(served):
        # Repositories without a name are like the others, and other paths of DVC are refused.
        if route.handler is dvc.nowhere or "<name:" not in route.path and route.path.startswith("/lfs"):
            continue
        path = re.sub(r"<[a-z]+:([a-z]+)_?>", r"{\1}", route.path)
        wanted |= {(path, method) for method in [route.method.lower(), *["head"] * (route.method == "GET")]}
    assert described == wanted
    names = [
        item[method]["operationId"]
        for item in document["paths"].values()
        for method in METHODS
        if method in item
    ]
    assert len(names) == len(set(names))
    assert {tag["name"] for tag in document["tags"]} >= {
        tag
        for item in document["paths"].values()
        for method in METHODS
        if method in item
        for tag in item[method]["tags"]
    }
    assert own["paths"] == {path: item for path, item in document["paths"].items() if path in own["paths"]}


def test_the_descriptions_are_whole() -> None:
    """Each module has its part of the document beside it."""
    for module in OWN.values():
        part = json.loads(Path(str(module.__file__)).with_suffix(".json").read_bytes())
        assert part["tags"] and part["paths"]


def test_the_public_url(config: Config) -> None:
    """Answers with absolute URLs use the setting, or else what the request names."""
    asked = json.dumps({"operation": "upload", "objects": [{"oid": "0" * 64, "size": 1}]}).encode()

    def href(application: Application, **fields: str) -> str:
        answer = call(application, "POST", "/lfs/objects/batch", body=asked, CONTENT_TYPE=lfs.KIND, **fields)
        found: str = answer.json["objects"][0]["actions"]["upload"]["href"]
        return found

    config = replace(config, protocols=(Protocol.LFS,))
    application, name = create_app(config), "0" * 64
    assert href(application, HTTP_HOST="a.example:81") == f"http://a.example:81/{name}"
    mounted = {"SCRIPT_NAME": "/m", "wsgi.url_scheme": "https", "HTTP_HOST": "[::1]"}
    assert href(application, **mounted) == f"https://[::1]/m/{name}"
    public = create_app(replace(config, public_url="https://b.example/blobs"))
    assert href(public, **mounted) == f"https://b.example/blobs/{name}"


def test_others_need_no_cors(served: Application) -> None:
    """Pages of other sites may not use them, unless the settings allow it."""
    fields = {"HTTP_ORIGIN": "https://page.example", "HTTP_HOST": "a.example", **dict(bearer("all"))}
    answer = call(served, "GET", "/lfs/locks", **fields)
    assert "Access-Control-Allow-Origin" not in answer.headers
