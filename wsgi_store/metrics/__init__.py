"""Metrics for Prometheus, imported only if they are enabled."""
