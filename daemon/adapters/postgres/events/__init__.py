"""Stored events: each once, a partition per day, with the position of the log in the same transaction."""
