"""wsgi_store measured beside its peers: `make bench`, or `python -m benchmarks --help`."""
