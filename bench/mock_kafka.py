"""
librdkafka's mock broker in a process of its own: Kafka's protocol without Kafka's work.

    python -m bench.mock_kafka      (prints its address as JSON, ends on SIGTERM)

It keeps records in memory, drops old ones and syncs nothing, so what a bench measures against it is
Headgate alone. It is a mock, and named one wherever a figure is printed: no statement about a real broker.
"""

from __future__ import annotations

import json
import signal
import sys

from confluent_kafka import Producer

#: The mock makes a topic when it is asked for, with four partitions; it can't be told to create one.
TOPICS = ("raw-events", "dlq-events")

ANSWER_TIMEOUT_S = 10.0


def main() -> None:
    """Start the broker, make the topics, say where it is, and wait."""
    # The mock cluster lives inside this producer, which never sends anything.
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
    brokers = producer.list_topics(timeout=ANSWER_TIMEOUT_S).brokers
    for topic in TOPICS:
        error = producer.list_topics(topic, timeout=ANSWER_TIMEOUT_S).topics[topic].error
        if error is not None:
            sys.exit(f"the mock broker can't make {topic}: {error}")
    broker = next(iter(brokers.values()))
    print(json.dumps({"mock_kafka": f"{broker.host}:{broker.port}"}), flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    # Blocked before librdkafka starts its threads: they inherit it, and sigwait gets the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
