"""How a thread serves one request: calls the application, sends its response, logs both."""

import socket
import ssl
import time
from datetime import timedelta
from functools import partial
from typing import Any

from gunicorn.http import errors as parsing
from gunicorn.http import wsgi
from gunicorn.util import close_graceful

from wsgi_store import errors
from wsgi_store.gunicorn.body import Body
from wsgi_store.gunicorn.connection import Connection
from wsgi_store.gunicorn.error_response import ErrorResponder
from wsgi_store.gunicorn.interim import Continue, send_resumption
from wsgi_store.gunicorn.log import shown_path
from wsgi_store.gunicorn.parse_errors import Rejected, service_error
from wsgi_store.gunicorn.process import WorkerProcess
from wsgi_store.gunicorn.request import Request
from wsgi_store.gunicorn.response import GONE, Response
from wsgi_store.gunicorn.settings import Settings
from wsgi_store.gunicorn.transfer_slots import TransferSlots
from wsgi_store.logs import logger
from wsgi_store.web.exchange import exchange_of
from wsgi_store.web.response_body import broke_off

# gunicorn has these among its parsing errors, but the application causes them.
APPLICATION_ERRORS = (parsing.InvalidResponseHeader, parsing.InvalidResponseHeaderName)


class RequestHandler(WorkerProcess):
    """The part of the worker that runs in threads, one request at a time."""

    cfg: Settings
    alive: bool
    slots: TransferSlots
    error_responder: ErrorResponder

    def handle_request(self, req: Any, conn: Connection) -> bool:
        """Serve a request whose head has been parsed; whether the connection can stay open."""
        if req._expected_100_continue:  # pylint: disable=protected-access
            req._expected_100_continue = False  # pylint: disable=protected-access
            req.body.reader = Continue(req, conn.sock)
        try:
            return self._respond(req, conn)
        except TimeoutError:
            self.log.info("Closing a connection that moved nothing for too long.")
            return False
        except ssl.SSLError as error:  # an OSError, but only the client can cause it
            self.log.debug("Closing a connection: %s", error)
            return False
        except OSError as error:
            if error.errno in GONE:
                raise
            # A disk error of sendfile(2), which gunicorn would take for one of the socket.
            path = shown_path(req)
            self.log.error("The answer to %s %s broke off: %s", req.method, path, error.strerror)
            return False

    def _respond(self, req: Any, conn: Connection) -> bool:
        """Do what gunicorn's own `handle_request` does, with a response of our class."""
        environ: dict[str, Any] = {}
        response = None
        try:
            self.cfg.pre_request(self, req)
            begin = time.perf_counter()
            response, environ = wsgi.create(
                req,
                conn.sock,
                conn.client,
                conn.server,
                self.cfg,
                response_class=Response,
                response_args=(conn, self.slots),
            )
            self._follow(conn, req, response)
            environ["wsgi.multithread"] = True
            exchange = exchange_of(environ)
            exchange.own_worker = True
            exchange.interim = self._interim(req, conn)
            self.nr += 1
            if self.nr >= self.max_requests and self.alive:
                self.log.info("Autorestarting worker after current request.")
                self.alive = False
            # A connection of another protocol than HTTP carries one request.
            kept = self.alive and self.cfg.keepalive and isinstance(req, Request)
            if not kept or self.nr_conns > self.max_keepalived:
                response.force_close()
            body = self.wsgi(environ, response.start_response)
            try:
                response.send(body, environ["wsgi.file_wrapper"])
            finally:
                if exchange.count_sent is not None:
                    exchange.count_sent(response.sent)
                self.log.access(response, req, environ, timedelta(seconds=time.perf_counter() - begin))
                if hasattr(body, "close"):
                    body.close()
            return not response.should_close()
        except OSError:
            raise
        except errors.Busy as error:  # raised by start_response, and unknown to applications other than ours
            raise Rejected(error, req.method) from None
        except errors.StoreError as error:
            # The response has begun, so that only a missing end can tell the client.
            log = logger.bind(request_id=exchange_of(environ).request_id)
            log.error("{} {}: {}", req.method, shown_path(req), broke_off(error))
            return False
        except (Exception, SystemExit):
            if response and response.headers_sent:
                # A second response would be taken for the rest of the first.
                self.log.exception("Error handling request")
                close_graceful(conn.sock)
                raise StopIteration() from None
            raise
        finally:
            try:
                self.cfg.post_request(self, req, environ, response)
            except Exception:  # pylint: disable=broad-exception-caught
                self.log.exception("Exception in post_request hook")

    def _interim(self, req: Any, conn: Connection) -> partial[None] | None:
        """Return a function that sends interim responses, if the setting and the protocol allow them."""
        # HTTP/1.0 has none (RFC 9110 section 15.2).
        if self.cfg.service.interim and isinstance(req, Request) and req.version >= (1, 1):
            return partial(send_resumption, conn.sock)
        return None

    def _follow(self, conn: Connection, req: Any, response: Response) -> None:
        """Have the transfer measure the request; raises Rejected if its body needs a slot and gets none."""
        body = req.body
        # Seen only by gunicorn's parser: with TLS, or where the head announced it in an unusual way.
        unexpected = conn.body is None or not conn.body.has_arrived(0)
        if (
            conn.transfer is None
            and unexpected
            and isinstance(body, Body)
            and not body.is_whole()
            and not self.slots.claim(conn, upload=True)
        ):
            raise Rejected(errors.Busy("too many transfers are under way"), req.method)
        response.follow()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer a request that cannot be parsed; log nothing of its contents."""
        if not isinstance(exc, parsing.ParseException) or isinstance(exc, APPLICATION_ERRORS):
            super().handle_error(req, client, addr, exc)
        else:
            method = req.method if req else getattr(exc, "method", None)
            self.error_responder.respond(client, addr, service_error(exc), method)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Whether the connection can be used again, once the rest of the body has been read."""
        # Mostly nothing is left, and gunicorn changes the timeout twice to find that out.
        is_read = keepalive and conn.parser.mesg.is_read()
        return bool(is_read or super()._keepalive_after(conn, keepalive))
