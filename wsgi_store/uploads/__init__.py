"""Uploads that clients may interrupt and continue."""
