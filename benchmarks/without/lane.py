"""Without the lane: kept connections wait in a thread for a moment, then in gunicorn's poller."""

# pylint: disable=wildcard-import,unused-wildcard-import,abstract-method,invalid-name
from typing import Any

from gunicorn.workers import gthread

from wsgi_store.gunicorn import worker
from wsgi_store.gunicorn.conf import *  # noqa: F401, F403


class WithoutLane(worker.Worker):
    """The worker as it would be."""

    def finish_request(self, conn: Any, fs: Any) -> None:
        """As the worker does it, but for the lane."""
        self._busy -= 1
        if fs.cancelled() or fs.exception() or not fs.result():
            self.end(conn)
        elif conn.read_ahead() or conn.has_decrypted():
            self.await_head(conn)
        else:
            gthread.ThreadWorker.finish_request(self, conn, fs)
        self._accept_if_able()

    def _belongs_to_lane(self, conn: Any) -> bool:
        return False


worker_class = WithoutLane
