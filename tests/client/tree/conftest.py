"""Fixtures for the tests of trees."""

from tests.client.conftest import fixture_client, fixture_server

__all__ = ["fixture_client", "fixture_server"]
