"""Tests of uploads that clients may interrupt and continue."""
