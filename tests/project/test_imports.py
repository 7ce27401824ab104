"""Importing the package does not change the state of the process."""

import subprocess
import sys
from pathlib import Path

import wsgi_store

PACKAGE = Path(wsgi_store.__file__).parent
# Importing it creates the application.
RUN_BY_SERVERS = {"wsgi_store.wsgi"}
MODULES = sorted(
    {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    }
    - RUN_BY_SERVERS
)
# Imports the given modules, and prints each one that changed something.
IMPORTER = """
import gc, importlib, os, resource, signal, sys, threading
import gunicorn.config, gunicorn.http.wsgi, gunicorn.workers.gthread

def state():
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    limits = [resource.getrlimit(getattr(resource, name)) for name in names]
    signals = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    memory = gc.get_threshold(), gc.get_freeze_count(), gc.isenabled()
    files = sorted(os.listdir("/proc/self/fd"))
    borrowed = gunicorn.config, gunicorn.http.message, gunicorn.http.wsgi, gunicorn.workers.gthread
    classes = [thing for module in borrowed for thing in vars(module).values() if isinstance(thing, type)]
    # gunicorn reads its settings only to start a server: these may have it refuse an option.
    classes.remove(gunicorn.config.Daemon)
    patched = [dict(vars(cls)) for cls in classes]
    return limits, signals, blocked, dict(os.environ), memory, threading.enumerate(), files, patched

def hook(**given):
    name = sys._getframe(1).f_globals["__name__"]
    if name.startswith("wsgi_store"):
        print(name, "registers a fork hook")
    register(**given)

register, os.register_at_fork = os.register_at_fork, hook
for name in sys.argv[1:]:
    before = state()
    importlib.import_module(name)
    if state() != before:
        print(name, "changes the process")
"""


def test_imports_leave_the_process_alone() -> None:
    """No import changes signals, limits, the environment, memory, files or gunicorn, or hooks into fork."""
    result = subprocess.run(
        [sys.executable, "-c", IMPORTER, *MODULES], check=True, capture_output=True, text=True
    )
    assert not result.stdout
