"""Foreign protocols, each in a file of its own."""
