"""Settings: what there is, where it comes from, what it comes to."""
