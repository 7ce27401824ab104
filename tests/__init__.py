"""The tests, organized like the package."""

import pytest

# Before the suite is imported, so that its failures show values.
pytest.register_assert_rewrite("wsgi_store.testing")
