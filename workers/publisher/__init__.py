"""The publisher: from the frontends' queues to the event log. Run as `python -m workers.publisher`."""
