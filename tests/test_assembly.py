"""Applications assembled from settings and a store."""

import gc
import weakref
from dataclasses import replace

import pytest

from tests.support.calling import call
from wsgi_store.assembly import create_app
from wsgi_store.choices import Redirect
from wsgi_store.config import Config

pytestmark = pytest.mark.every_store


def test_nothing_outlives_an_application(config: Config) -> None:
    """After an application is deleted, no cache keeps its store alive."""
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
