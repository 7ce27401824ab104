"""Settings of gunicorn that leave a part of the worker out, to measure what it gains (benchmarks.compare)."""
