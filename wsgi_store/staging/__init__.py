"""Receiving uploads until the store has them."""

from wsgi_store.staging.filling import SPACE_INTERVAL, WRITEBACK_INTERVAL
from wsgi_store.staging.receipt import Receipt
from wsgi_store.staging.space import Promises
from wsgi_store.staging.staging import Staging

__all__ = ["SPACE_INTERVAL", "WRITEBACK_INTERVAL", "Promises", "Receipt", "Staging"]
