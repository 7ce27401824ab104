"""Settings of gunicorn for wsgi_store: `gunicorn -c deploy/gunicorn.conf.py`.

They come with the package. What is set below wins over them, and SIGHUP reads it anew; new code
of wsgi_store itself needs a restart, or SIGUSR2.
"""

# pylint: disable=invalid-name,wildcard-import,unused-wildcard-import  # the names are gunicorn's

from wsgi_store.gunicorn.conf import *  # noqa: F401, F403
