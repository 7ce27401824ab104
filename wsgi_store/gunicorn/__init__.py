"""Running the service under gunicorn: settings, log and worker."""
