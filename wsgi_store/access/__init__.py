"""Access control: grants, tokens, signed links and tickets."""
