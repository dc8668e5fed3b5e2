"""Profiles: what the events of a batch change of them, and looking them up."""
