"""X-HTTP-Method-Override, for clients of tus that can send nothing but GET and POST."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.access import line, maker
from tests.support.calling import Untouched, application_of, call, held
from tests.support.resumable import created, offset, tus
from wsgi_store.assembly import create_app
from wsgi_store.choices import LogFormat, LogLevel, MetricsAccess
from wsgi_store.config import Config
from wsgi_store.web.access_log import AccessLog
from wsgi_store.web.application import Application

PATCH = {"X_HTTP_METHOD_OVERRIDE": "PATCH"}
DELETE = {"X_HTTP_METHOD_OVERRIDE": "DELETE"}


def test_patch_and_delete(application: Application) -> None:
    """A POST with the field counts as a PATCH or a DELETE."""
    path = created(application, UPLOAD_LENGTH=5)
    answer = tus(application, "POST", path, b"he", UPLOAD_OFFSET=0, **PATCH)
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "2")
    assert tus(application, "POST", path, b"llo", UPLOAD_OFFSET=1, **PATCH).status == 409
    assert tus(application, "POST", path, b"llo", UPLOAD_OFFSET=2, **PATCH).status == 204
    assert len(held(application)) == 1
    assert tus(application, "POST", path, CONTENT_LENGTH="0", **DELETE).status == 204
    assert tus(application, "HEAD", path).status == 404


@pytest.mark.parametrize("value", ["GET", "HEAD", "OPTIONS", "PUT", "POST", "patch", "PATCH, PATCH", "", "x"])
def test_other_methods(application: Application, value: str) -> None:
    """No other method can be given so, least of all one that needs no check of its origin."""
    path = created(application, UPLOAD_LENGTH=5)
    for at in ("/uploads", path):
        answer = tus(application, "POST", at, Untouched(), CONTENT_LENGTH="5", X_HTTP_METHOD_OVERRIDE=value)
        assert (answer.status, answer.json["code"]) == (400, "bad_request")
        assert answer.headers["Tus-Resumable"] == "1.0.0"


def test_where_the_method_cannot_be_used(application: Application) -> None:
    """At /uploads itself there is nothing to append to or to remove."""
    for fields in (PATCH, DELETE):
        answer = tus(application, "POST", "/uploads", CONTENT_LENGTH="0", UPLOAD_LENGTH=1, **fields)
        assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS, POST, PUT")


def test_elsewhere_the_field_means_nothing(application: Application) -> None:
    """Requests without Tus-Resumable, at other paths, and by other methods than POST ignore the field."""
    path = created(application, UPLOAD_LENGTH=5)
    hash_ = call(application, "POST", body=b"kept", HTTP_X_HTTP_METHOD_OVERRIDE="DELETE").json["hash"]
    assert call(application, "POST", body=b"kept", HTTP_X_HTTP_METHOD_OVERRIDE="PUT").status == 200
    assert tus(application, "POST", f"/{hash_}", b"kept", **DELETE).status == 405
    assert tus(application, "POST", "/uploadsx", b"kept", **DELETE).status == 404
    assert tus(application, "POST", path, b"he", TUS_RESUMABLE=None, **DELETE).status == 405
    for method, status in (("HEAD", 200), ("GET", 200), ("OPTIONS", 204), ("PATCH", 204)):
        assert tus(application, method, path, b"", UPLOAD_OFFSET=0, **DELETE).status == status
    assert held(application) == [hash_]
    assert offset(application, path) == 0


def test_rights_and_origins_are_those_of_the_method(config: Config, tmp_path: Path) -> None:
    """The field opens nothing: neither to callers without the scope, nor to pages of other sites."""
    api = maker(config, tmp_path / "tokens")(line("reader", "read")).app
    writer: dict[str, Any] = {"AUTHORIZATION": "Bearer all"}
    path = created(api, UPLOAD_LENGTH=5, **writer)
    for fields in (PATCH, DELETE):
        reader = tus(api, "POST", path, b"he", UPLOAD_OFFSET=0, AUTHORIZATION="Bearer reader", **fields)
        assert (reader.status, reader.json["scope"]) == (403, "write")
        assert tus(api, "POST", path, b"he", UPLOAD_OFFSET=0, **fields).status == 401
        for origin in ({"ORIGIN": "http://evil.example"}, {"SEC_FETCH_SITE": "cross-site"}):
            page = tus(api, "POST", path, b"he", UPLOAD_OFFSET=0, **writer, **fields, **origin)
            assert (page.status, page.json["code"]) == (403, "cross_origin")
    assert tus(api, "HEAD", path, **writer).headers["Upload-Offset"] == "0"


def test_logs_and_metrics_name_the_method(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    """The access log and the metrics have the method that was used."""
    backend = create_app(replace(config, metrics=MetricsAccess.PUBLIC)).backend
    application = application_of(backend, access_log=AccessLog(LogLevel.INFO, LogFormat.JSON))
    path = created(application, UPLOAD_LENGTH=5)
    tus(application, "POST", path, b"hello", UPLOAD_OFFSET=0, **PATCH)
    entry = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (entry["method"], entry["status"], entry["size"]) == ("PATCH", 204, 5)
    counted = call(application, path="/metrics").body.decode()
    assert 'method="PATCH",route="/uploads/' in counted
