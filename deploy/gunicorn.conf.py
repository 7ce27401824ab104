"""gunicorn's settings for wsgi_store: `gunicorn -c deploy/gunicorn.conf.py`.

The package brings the settings. Add your own below: they override those of the package, and SIGHUP reads
them again. New code of wsgi_store itself needs a restart, or SIGUSR2.
"""

# pylint: disable=invalid-name,wildcard-import,unused-wildcard-import  # the names are gunicorn's

from wsgi_store.gunicorn.conf import *  # noqa: F401, F403
