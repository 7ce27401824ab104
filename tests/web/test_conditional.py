"""Conditional requests (RFC 9110 section 13)."""

import itertools
import os
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime, formatdate
from pathlib import Path

import pytest
from webtest import TestApp

from tests.support.calling import call
from wsgi_store.config import Config
from wsgi_store.web.application import Application

HELLO = b"hello\n"
HASH = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
ETAG = f'"{HASH}"'
TIME = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110

ETAGS = {
    "same": ETAG,
    "weak": f"W/{ETAG}",
    "other": '"0"',
    "list": f'"0", {ETAG}',
    "others": '"0", W/"1"',
    "any": "*",
    "empty": "",
    "blank": '""',
    None: None,
}
DATES = {
    "before": formatdate(TIME - 1, usegmt=True),
    "equal": formatdate(TIME, usegmt=True),
    "after": formatdate(TIME + 1, usegmt=True),
    "malformed": "yesterday",
    None: None,
}
STRONG = {"same", "list", "any"}
WEAK = STRONG | {"weak"}


@pytest.fixture(autouse=True)
def old_blob(application: Application, config: Config) -> None:
    """A blob with an mtime of TIME and nearly a second more."""
    call(application, "POST", body=HELLO)
    os.utime(Path(config.root, HASH[:2], HASH), (TIME + 0.9, TIME + 0.9))


def reference(
    method: str, match: str | None, unmodified: str | None, none_match: str | None, modified: str | None
) -> int:
    """The status according to RFC 9110 section 13.2.2, step by step."""
    if match is not None:
        if match not in STRONG:
            return 412
    elif unmodified == "before":
        return 412
    if none_match is not None:
        if none_match in WEAK:
            return 304 if method in ("GET", "HEAD") else 412
    elif method in ("GET", "HEAD") and modified in ("equal", "after"):
        return 304
    return 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("match", ETAGS)
@pytest.mark.parametrize("none_match", ETAGS)
def test_order_of_conditions(
    application: Application, config: Config, method: str, match: str | None, none_match: str | None
) -> None:
    """Every combination of conditions is evaluated in the order of RFC 9110 section 13.2.2."""
    path = Path(config.root, HASH[:2], HASH)
    for unmodified, modified in itertools.product(DATES, DATES):
        if not path.exists():
            call(application, "POST", body=HELLO)
            os.utime(path, (TIME + 0.9, TIME + 0.9))
        fields = {
            "HTTP_IF_MATCH": ETAGS[match],
            "HTTP_IF_UNMODIFIED_SINCE": DATES[unmodified],
            "HTTP_IF_NONE_MATCH": ETAGS[none_match],
            "HTTP_IF_MODIFIED_SINCE": DATES[modified],
        }
        answer = call(application, method, f"/{HASH}", **fields)
        assert answer.status == reference(method, match, unmodified, none_match, modified), fields
        assert path.exists() == (method != "DELETE" or answer.status == 412)


def test_not_modified(api: TestApp) -> None:
    """A 304 has only the fields that update a cache."""
    for headers in ({"If-None-Match": ETAG}, {"If-Modified-Since": DATES["equal"]}):
        for method in (api.get, api.head):
            answer = method(f"/{HASH}/a.txt", headers=headers, status=304)
            assert answer.body == b""
            assert set(answer.headers) == {"ETag", "Cache-Control", "X-Request-ID"}
            assert answer.headers["ETag"] == ETAG
            assert answer.headers["Cache-Control"] == api.get(f"/{HASH}").headers["Cache-Control"]


@pytest.mark.parametrize(
    "name, value", [("If-Match", '"0"'), ("If-Unmodified-Since", formatdate(0, usegmt=True))]
)
def test_precondition_failed(api: TestApp, name: str, value: str) -> None:
    """A 412 names the condition that failed."""
    answer = api.get(f"/{HASH}", headers={name: value}, status=412)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["code"] == "precondition_failed"
    assert name in answer.json["detail"]
    assert api.delete(f"/{HASH}", headers={name: value}, status=412).json == answer.json
    assert api.get(f"/{HASH}").body == HELLO


def test_delete_if_match(api: TestApp) -> None:
    """A blob is removed when If-Match names it, under either spelling of its URL."""
    assert api.delete(f"/?hash={HASH}", headers={"If-Match": '"0"'}, status=412)
    removed = {"hash": HASH, "names": {"sha256": HASH}, "size": 6}
    assert api.delete(f"/?hash={HASH}", headers={"If-Match": ETAG}).json == removed
    api.delete(f"/{HASH}", headers={"If-Match": "*"}, status=404)


def test_conditions_on_nothing(application: Application) -> None:
    """An absent blob is answered 404, whatever the conditions."""
    for name in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"):
        assert call(application, path=f"/{'0' * 64}", **{name: "*"}).status == 404


SOMEWHERE = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    "date",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        format_datetime(datetime.fromtimestamp(TIME, SOMEWHERE)),
    ],
)
def test_forms_of_a_date(application: Application, date: str) -> None:
    """All three date formats of RFC 9110 section 5.6.7 are read, and so are time zones."""
    assert call(application, path=f"/{HASH}", HTTP_IF_MODIFIED_SINCE=date).status == 304
    assert call(application, path=f"/{HASH}", HTTP_IF_UNMODIFIED_SINCE=date).status == 200


@pytest.mark.parametrize(
    "date",
    [
        "",
        "0",
        "784111777",
        "Sun, 32 Nov 1994 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +99999999999999999999",
        "Sun, 06 Nov 1994 08:49:37 +9999",
        "\xff" * 100,
        f"{'9' * 5000}",
    ],
)
@pytest.mark.parametrize("name", ["HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_RANGE"])
def test_malformed_dates(application: Application, date: str, name: str) -> None:
    """A malformed date is ignored; in If-Range it makes the condition fail."""
    answer = call(application, path=f"/{HASH}", HTTP_RANGE="bytes=0-0", **{name: date})
    assert answer.status == (200 if name == "HTTP_IF_RANGE" else 206)


@pytest.mark.parametrize(
    "value, holds",
    [
        (ETAG, True),
        (DATES["equal"], True),
        (f"W/{ETAG}", False),
        ('"0"', False),
        (HASH, False),
        (f"{ETAG}, {ETAG}", False),
        ("*", False),
        ("", False),
        (DATES["before"], False),
        (DATES["after"], False),
        ("yesterday", False),
    ],
)
def test_if_range(application: Application, value: str, holds: bool) -> None:
    """Range applies only if If-Range matches the blob; otherwise the whole blob is sent."""
    answer = call(application, path=f"/{HASH}", HTTP_RANGE="bytes=1-2", HTTP_IF_RANGE=value)
    assert (answer.status, answer.body) == ((206, b"el") if holds else (200, HELLO))
    answer = call(application, path=f"/{HASH}", HTTP_RANGE="bytes=6-", HTTP_IF_RANGE=value)
    assert answer.status == (416 if holds else 200)


def test_if_range_alone(application: Application) -> None:
    """If-Range without Range has no effect."""
    assert call(application, path=f"/{HASH}", HTTP_IF_RANGE=ETAG).status == 200


@pytest.mark.parametrize("value, status", [("bytes=0-0", 206), ("bytes=6-", 416)])
def test_conditions_before_ranges(application: Application, value: str, status: int) -> None:
    """Ranges are evaluated only after all other conditions hold."""

    def ask(**fields: str) -> int:
        return call(application, path=f"/{HASH}", HTTP_RANGE=value, **fields).status

    assert ask() == ask(HTTP_IF_MATCH=ETAG) == ask(HTTP_IF_NONE_MATCH='"0"') == status
    assert ask(HTTP_IF_NONE_MATCH=ETAG) == 304
    assert ask(HTTP_IF_MATCH='"0"') == 412
