"""The event log as the publisher uses it: Kafka as long as it acknowledges, the local log when it does not."""

from daemon.adapters.failover.log import FailoverLog

__all__ = ["FailoverLog"]
