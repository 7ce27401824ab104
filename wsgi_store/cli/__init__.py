"""The command wsgi-store."""
