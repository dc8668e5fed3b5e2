"""
Headgate: an event-ingestion gateway between the internet and Kafka.

`docs/architecture.md` follows one event through these folders in order.
"""

__version__ = "0.1.0"
