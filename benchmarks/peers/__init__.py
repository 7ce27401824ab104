"""Applications to compare with, for the same gunicorn with the same settings."""
