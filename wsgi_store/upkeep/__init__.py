"""What looks after a store: verify, collect, usage."""
