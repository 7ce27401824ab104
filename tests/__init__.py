"""The tests, in rooms like those of the package."""

import pytest

# Before anything imports the suite, so that its failures show values.
pytest.register_assert_rewrite("wsgi_store.testing")
