"""Assembles the application from a store, staging, access, metrics and the HTTP API."""

import atexit
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from wsgi_store.access.authorizer import authorizer
from wsgi_store.access.grant import Authorize
from wsgi_store.access.signing import Signer
from wsgi_store.choices import MetricsAccess, Protocol
from wsgi_store.config import Config
from wsgi_store.errors import ConfigError
from wsgi_store.logs import logger
from wsgi_store.protocols.dialects import AllDialects
from wsgi_store.staging import Staging
from wsgi_store.store.abilities import LocalPaths, Pieces, Renewal
from wsgi_store.store.contract import Durability
from wsgi_store.store.open import open_store
from wsgi_store.uploads.events import Event
from wsgi_store.uploads.room import Limits, Room, directory_of
from wsgi_store.uploads.uploads import Uploads
from wsgi_store.web import uwsgi
from wsgi_store.web.access_log import AccessLog
from wsgi_store.web.application import Application
from wsgi_store.web.backend import Backend
from wsgi_store.web.hashes import Hashes
from wsgi_store.web.hosts import KnownHosts
from wsgi_store.web.redirects import Redirects
from wsgi_store.web.request import Request
from wsgi_store.web.response import Response
from wsgi_store.web.routes import UPLOADS, URLS, aim
from wsgi_store.web.routing import Route, Routes


def create_app(config: Config | None = None, authorize: Authorize | None = None) -> Application:
    """Create the WSGI application (PEP 3333) for a host application to mount.

    `authorize` replaces the access settings: it returns the Grant of a request from its environ, and may
    raise Unauthenticated and Denied. Raises ConfigError, and StoreError if the store cannot be opened.
    """
    backend, routes = _with_protocols(create_backend(config or Config(), authorize))
    return Application(backend, routes)


def create_server_app(config: Config) -> Application:
    """Create the application of a server of its own, which checks the Host field and logs requests.

    Raises ConfigError and StoreError.
    """
    backend, routes = _with_protocols(create_backend(config, None))
    atexit.register(backend.hashes.tell)
    return Application(
        backend,
        routes,
        # A page that has a token is trusted, whatever host name it uses.
        check_host=None if config.tokens else KnownHosts(config.hosts),
        access_log=AccessLog(config.log_level, config.log_format),
    )


def _with_protocols(backend: Backend) -> tuple[Backend, Routes]:
    """Return the URLs of this API and of the protocols that are on; the backend describes them."""
    # pylint: disable=import-outside-toplevel
    modules = []
    if Protocol.LFS in backend.config.protocols:
        from wsgi_store.protocols import lfs

        modules.append(lfs)
    if Protocol.DVC in backend.config.protocols:
        from wsgi_store.protocols import dvc

        modules.append(dvc)
    table, custom = [*URLS, METALINK], [UPLOADS]
    for module in modules:
        more, their = module.routes(backend)
        table += more
        custom += their
    paths = tuple(Path(str(module.__file__)).with_suffix(".json") for module in modules)
    return replace(backend, descriptions=paths), Routes(table, custom, aim)


def _metalink(request: Request, hash_: str) -> Response:
    # Imported at the first request: few clients ask.
    from wsgi_store.protocols.metalink import metalink  # pylint: disable=import-outside-toplevel

    return metalink(request, hash_)


METALINK = Route("/<hash:hash_>.meta4", "GET", _metalink, "read")


def create_backend(config: Config, authorize: Authorize | None) -> Backend:
    """Open the store, and return what the requests of an application share.

    `authorize` is that of a host application. Raises ConfigError and StoreError.
    """
    if authorize is None:
        config.require_sense()
    store = open_store(
        config.root,
        config.hash,
        config.durability,
        config.remote,
        names=config.names,
        read_only=config.read_only,
        create=True,
    )
    kind, metrics = Staging, None
    if config.metrics is not MetricsAccess.OFF:
        # Imported only when it is needed: prometheus-client is optional.
        try:
            from wsgi_store.metrics import prometheus  # pylint: disable=import-outside-toplevel
        except ImportError as error:
            raise ConfigError(
                f"WSGI_STORE_METRICS: {error}: install the extra metrics (docs/deployment.md)"
            ) from None
        metrics = prometheus
        store, kind = metrics.TimedStore(store), metrics.CountedStaging
    told = partial(_told, metrics.count_upload if metrics else None)
    room = Room(directory_of(store), told)
    staging = kind(
        store,
        max_size=config.max_size,
        min_free=config.min_free,
        durability=config.durability,
        promises=room,
    )
    tickets = os.path.join(os.path.dirname(store.staging_directory), ".tickets")
    # A host application that authorizes requests itself reads no links of ours.
    signer = Signer(list(config.signing_keys)) if config.signing_keys and authorize is None else None
    authorize = authorize or authorizer(config, signer, tickets)
    hashes = Hashes(store, metrics.count_asked if metrics else None)
    uploads = Uploads(
        staging,
        store,
        Limits(config.upload_expires, config.upload_count, config.upload_bytes),
        room=room,
        sync=config.durability is not Durability.NONE,
        told=told,
        threads=uwsgi.has_threads(),
    )
    if uploads.lacks is not None:
        logger.warning("uploads cannot be continued: the file system has no {}", uploads.lacks)
    return Backend(
        config,
        store,
        staging,
        authorize,
        Redirects(config.redirect, store),
        hashes,
        uploads,
        AllDialects(),
        store if isinstance(store, LocalPaths) else None,
        store if isinstance(store, Renewal) else None,
        store if isinstance(store, Pieces) else None,
        metrics,
        signer,
    )


def _told(count: Callable[[str], object] | None, event: Event, identity: str, size: int) -> None:
    """Log what became of an upload, and count it."""
    logger.info("upload {} {}: {} bytes", identity, event.value, size)
    if count is not None:
        count(event.value)
