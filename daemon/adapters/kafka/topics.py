"""Topics: that they are there, how many partitions they have, and how big a record they take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaClient
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidReplicationFactorError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from daemon.adapters.kafka.connection import client_options
from daemon.config.schema import Kafka
from daemon.errors import LogUnavailable, SettingsError

log = logging.getLogger(__name__)

#: Between looks at whether a new topic has its leaders, seconds.
LOOK_S = 0.05

#: Kafka's default of max.message.bytes, taken where the broker does not say (no right to describe configs).
RECORD_BYTES_DEFAULT = 1_048_588


async def ensure_topics(client: AIOKafkaClient, kafka: Kafka, topics: Sequence[str]) -> None:
    """
    Make missing topics, if the settings want that, and wait until every partition has a leader.

    Raises SettingsError for topics that are missing and shall not, or may not, be created; LogUnavailable
    where the cluster can't make them now.
    """
    # All topics: asking for one by name makes a broker with auto.create.topics.enable create it, with one partition.
    cluster = await client.fetch_all_metadata()
    there = cluster.topics(exclude_internal_topics=False)
    missing = [topic for topic in dict.fromkeys(topics) if topic not in there]
    if missing:
        named = ", ".join(missing)
        if not kafka.create_topics:
            raise SettingsError(
                f"missing on Kafka at {', '.join(kafka.brokers)}: {named}. Create them (kafka-topics.sh --create "
                f"--partitions {kafka.partitions}), or set kafka.create_topics = true",
                "kafka.create_topics",
            )
        await _create(kafka, missing)
        log.info("created on Kafka: %s, with %d partitions each", named, kafka.partitions)
    client.set_topics(list(dict.fromkeys(topics)))
    while True:
        await client.force_metadata_update()
        if all(complete(client, topic) for topic in topics):
            return
        await asyncio.sleep(LOOK_S)


async def partitions_of(kafka: Kafka, topic: str) -> list[int]:
    """The partitions of `topic`, in order; none where it does not exist."""
    client = AIOKafkaClient(**client_options(kafka))
    try:
        await client.bootstrap()
        cluster = await client.fetch_all_metadata()
    finally:
        await client.close()
    return sorted(cluster.partitions_for_topic(topic) or ())


async def record_bytes_max(kafka: Kafka, topics: Sequence[str]) -> int:
    """The smallest `max.message.bytes` of `topics`; Kafka's default where it is not told."""
    admin = AIOKafkaAdminClient(**client_options(kafka))
    try:
        await admin.start()
        wanted = [
            ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": ""})
            for topic in topics
        ]
        found = [int(value) for value in _values(await admin.describe_configs(wanted))]
    except (KafkaError, OSError, ValueError) as error:
        log.info("Kafka does not tell max.message.bytes (%s): taken to be %d", error, RECORD_BYTES_DEFAULT)
        return RECORD_BYTES_DEFAULT
    finally:
        await admin.close()
    return min(found, default=RECORD_BYTES_DEFAULT)


def _values(responses: list[Any]) -> list[str]:
    """The values out of DescribeConfigs answers; entries are tuples that begin with the name and the value."""
    return [
        entry[1]
        for response in responses
        for (_code, _message, _kind, _name, entries) in response.resources
        for entry in entries
        if entry[0] == "max.message.bytes"
    ]


async def _create(kafka: Kafka, names: list[str]) -> None:
    admin = AIOKafkaAdminClient(**client_options(kafka))
    try:
        await admin.start()
        response = await admin.create_topics(
            [NewTopic(name, kafka.partitions, kafka.replication_factor) for name in names]
        )
    finally:
        await admin.close()
    for name, code, *rest in response.topic_errors:
        error = for_code(code)
        if error in (NoError, TopicAlreadyExistsError):
            continue  # another publisher was faster
        why = str(rest[0]) if rest and rest[0] else error.__name__
        if error in (TopicAuthorizationFailedError, ClusterAuthorizationFailedError):
            raise SettingsError(
                f"{name} is missing on Kafka and we may not create it ({why}): create it, or grant CREATE",
                "kafka.create_topics",
            )
        if error is InvalidReplicationFactorError:
            # Not a SettingsError: brokers that are still starting are the other cause, and that passes.
            raise LogUnavailable(
                f"{name} can't be created with kafka.replication_factor = {kafka.replication_factor}: {why} "
                "Start more brokers or lower it"
            )
        raise LogUnavailable(f"{name} can't be created on Kafka: {why}")


def complete(client: AIOKafkaClient, topic: str) -> bool:
    """Whether `topic` is there and each of its partitions has a leader, as far as `client` knows."""
    partitions = client.cluster.partitions_for_topic(topic)
    return bool(partitions) and partitions == client.cluster.available_partitions_for_topic(topic)
