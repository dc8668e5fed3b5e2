"""The event log on Apache Kafka."""

from daemon.adapters.kafka.log import KafkaLog
from daemon.adapters.kafka.reader import KafkaReader

__all__ = ["KafkaLog", "KafkaReader"]
