"""The event log on this machine's disk: the spool when Kafka is away, the whole log without Kafka."""

from daemon.adapters.local.log import LocalLog
from daemon.adapters.local.reader import LocalReader

__all__ = ["LocalLog", "LocalReader"]
