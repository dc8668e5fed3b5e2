"""The processor: from the event log to PostgreSQL. Run as `python -m workers.processor`."""
