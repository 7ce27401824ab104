"""Blobs as objects in a bucket."""
