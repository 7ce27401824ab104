"""Trees: blobs that describe folders."""
