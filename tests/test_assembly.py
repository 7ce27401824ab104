"""Applications assembled from settings and a store."""

import gc
import weakref
from dataclasses import replace

import pytest

from tests.support.calling import call
from wsgi_store.assembly import create_app
from wsgi_store.choices import Protocol, Redirect
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.web import routing

pytestmark = pytest.mark.every_store


@pytest.mark.parametrize("protocols", [(), (Protocol.LFS, Protocol.DVC)], ids=["", "protocols"])
def test_nothing_outlives_an_application(config: Config, protocols: tuple[Protocol, ...]) -> None:
    """After an application is deleted, no cache keeps its store alive."""
    config = replace(config, protocols=protocols, names=(Algorithm.MD5,))
    if "://" in config.root:
        config = replace(config, redirect=Redirect.ALWAYS)
    application = create_app(config)
    path = call(application, "POST", body=b"hello\n").json["url"]
    for _ in range(2):
        assert call(application, path=path).status in (200, 307)
    store = weakref.ref(application.store)
    del application
    gc.collect()
    assert store() is None


def test_the_table_of_urls_is_compiled_once(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further applications of a process share the rules of Werkzeug: they take longer than a store."""
    create_app(config)
    monkeypatch.setattr(routing, "Rule", None)
    assert call(create_app(config), path="/healthz").status == 200
