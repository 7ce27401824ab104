"""Tests of the protocols that clients of others speak."""
