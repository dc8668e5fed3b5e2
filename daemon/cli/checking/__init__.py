"""What `headgate check` is made of: what is looked at, the digest of the settings, and the report."""
