"""What is on the log, in the spool and in the processor's table, against what callers were told."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import Consumer, TopicPartition

from tests.chaos.ledger import Ledger
from tests.servers.kafka import KafkaServer
from tests.support.product import Product

#: A read that takes longer has gone wrong.
READ_S = 300.0


class _Ids(msgspec.Struct):
    id: str = ""
    messageId: str = ""


_decode = msgspec.json.Decoder(_Ids).decode


@dataclass
class Books:
    """What the log has. Lists are of the callers' ids."""

    #: records on the topic, and those of them that are of this run
    records: int = 0
    ours: int = 0
    on_log: set[str] = field(default_factory=set)
    #: in the spool when everything was over
    on_spool: set[str] = field(default_factory=set)
    #: records beyond the first of an id
    copies: int = 0
    #: ids whose copies have different envelope ids: readers could not drop them
    torn: list[str] = field(default_factory=list)
    #: rows in the processor's table; None: there is no processor
    stored: int | None = None
    #: different envelope ids on the log (probes included), which is what should be stored
    distinct: int = 0

    def missing(self, ledger: Ledger) -> list[str]:
        """Ids that were acknowledged and are nowhere."""
        return sorted(ledger.acked.keys() - self.on_log - self.on_spool)

    def invented(self, ledger: Ledger) -> list[str]:
        """Ids on the log that nobody sent."""
        return sorted(self.on_log - ledger.sent.keys())


def reconcile(product: Product, kafka: KafkaServer, topic: str, prefix: str) -> Books:
    """Read the whole topic, as any consumer would, and the spool."""
    books = Books()
    by_message: dict[str, str] = {}
    envelopes: set[str] = set()
    for value in _values(kafka.bootstrap, topic):
        books.records += 1
        found = _decode(value)
        envelopes.add(found.id)
        if not found.messageId.startswith(prefix):
            continue
        books.ours += 1
        before = by_message.setdefault(found.messageId, found.id)
        if found.messageId in books.on_log:
            books.copies += 1
            if before != found.id and found.messageId not in books.torn:
                books.torn.append(found.messageId)
        books.on_log.add(found.messageId)
    books.distinct = len(envelopes)
    for line in product.command("spool", "export").stdout.splitlines():
        message_id = json.loads(line)["value"].get("messageId", "")
        if message_id.startswith(prefix):
            books.on_spool.add(message_id)
    return books


def _values(bootstrap: str, topic: str) -> Iterator[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "enable.auto.commit": False}
    )
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ends: dict[int, int] = {}
        places = []
        for partition in partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            if high > low:
                ends[partition] = high
                places.append(TopicPartition(topic, partition, low))
        consumer.assign(places)
        deadline = time.monotonic() + READ_S
        while ends:
            assert time.monotonic() < deadline, f"the topic was not read within {READ_S:g} s"
            for message in consumer.consume(2000, timeout=1.0):
                assert message.error() is None, message.error()
                yield message.value() or b""
                partition, offset = message.partition(), message.offset()
                if partition in ends and offset is not None and offset + 1 >= ends[partition]:
                    del ends[partition]
    finally:
        consumer.close()
