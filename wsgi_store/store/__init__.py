"""Where blobs live: the contract of a store, and the kinds that keep it."""
