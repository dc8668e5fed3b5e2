"""One module per kind of process; each is a composition root, run as `python -m workers.<role>`."""
