"""Applications for the same gunicorn with the same settings, to compare with."""
