"""Stores of blobs: the contract, and the kinds of store that implement it."""
