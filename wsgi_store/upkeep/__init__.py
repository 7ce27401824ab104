"""Upkeep of a store: verify, collect, usage."""
