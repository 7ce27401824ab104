"""Figures for Prometheus, loaded only where they are wanted."""
