"""Who may do what: tokens, signed links and tickets."""
