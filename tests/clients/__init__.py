"""Programs in use, as their page tells."""
