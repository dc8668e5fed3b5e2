"""Apache Kafka, as `headgate check` looks at it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from daemon.adapters.kafka.connection import client_options, forget_reason, quiet, reason
from daemon.adapters.probes.finding import Finding
from daemon.config.schema import Kafka
from daemon.errors import SettingsError

SUBJECT = "kafka"


async def probe_kafka(kafka: Kafka) -> list[Finding]:
    """Try the brokers as the settings say: reach, TLS, SASL, topics, partitions, replicas."""
    brokers = ", ".join(kafka.brokers)
    try:
        options = client_options(kafka)
    except SettingsError as error:
        return [Finding(SUBJECT, "failed", str(error))]
    quiet()
    forget_reason()
    admin = AIOKafkaAdminClient(**options)
    try:
        async with asyncio.timeout(kafka.request_timeout_s):
            await admin.start()
            cluster = await admin.describe_cluster()
            topics = {topic["topic"]: topic for topic in await admin.describe_topics()}
            wanted = [kafka.topic_raw, kafka.topic_dlq]
            configs = await _min_insync(admin, [name for name in wanted if name in topics])
    except (KafkaError, OSError, TimeoutError, ValueError) as error:
        why = (
            reason(error)
            if not isinstance(error, TimeoutError)
            else f"no answer in {kafka.request_timeout_s:g} s"
        )
        return [Finding(SUBJECT, "failed", f"{brokers} can't be used: {why}", _advice(kafka, why))]
    finally:
        with contextlib.suppress(KafkaError, OSError):
            await admin.close()
    nodes = cluster["brokers"]
    how = kafka.security_protocol + (f" {kafka.sasl_mechanism}" if "SASL" in kafka.security_protocol else "")
    findings = [Finding(SUBJECT, "ok", f"{_count(len(nodes), 'broker')} at {brokers} ({how})")]
    for name in wanted:
        findings += _topic(kafka, name, topics.get(name), configs.get(name), len(nodes))
    return findings


async def _min_insync(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    """`min.insync.replicas` by topic; empty where we may not ask."""
    if not names:
        return {}
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, configs={"min.insync.replicas": ""}) for name in names
    ]
    try:
        responses = await admin.describe_configs(resources)
    except KafkaError:
        return {}
    return {
        name: int(entry[1])
        for response in responses
        for (_code, _message, _kind, name, entries) in response.resources
        for entry in entries
        if entry[0] == "min.insync.replicas" and entry[1]
    }


def _topic(
    kafka: Kafka, name: str, topic: dict[str, Any] | None, insync: int | None, nodes: int
) -> list[Finding]:
    subject = f"{SUBJECT} {name}"
    if topic is None:
        if not kafka.create_topics:
            return [
                Finding(
                    subject,
                    "failed",
                    "the topic is missing, and kafka.create_topics is off",
                    f"create it: kafka-topics.sh --create --topic {name} --partitions {kafka.partitions}",
                )
            ]
        if kafka.replication_factor > nodes:
            return [
                Finding(
                    subject,
                    "failed",
                    f"the topic is missing, and can't be made with {_count(kafka.replication_factor, 'replica')} on {_count(nodes, 'broker')}",
                    "lower kafka.replication_factor or start more brokers",
                )
            ]
        return [
            Finding(
                subject,
                "ok",
                f"missing; will be made with {_count(kafka.partitions, 'partition')}, {_count(kafka.replication_factor, 'replica')}",
            )
        ]
    partitions = topic["partitions"]
    replicas = min((len(partition["replicas"]) for partition in partitions), default=0)
    text = f"{_count(len(partitions), 'partition')}, {_count(replicas, 'replica')}"
    if insync is not None:
        text += f", min.insync.replicas {insync}"
    findings = [Finding(subject, "ok", text)]
    headless = [partition["partition"] for partition in partitions if partition["leader"] < 0]
    if headless:
        findings.append(
            Finding(
                subject,
                "failed",
                f"no leader for partitions {headless}",
                "look at the brokers that hold them",
            )
        )
    short = sum(1 for partition in partitions if len(partition["isr"]) < len(partition["replicas"]))
    if short:
        findings.append(
            Finding(
                subject,
                "warning",
                f"{_count(short, 'partition')} without all replicas in sync",
                "look at the brokers",
            )
        )
    if replicas > 1 and insync == 1:
        findings.append(
            Finding(
                subject,
                "warning",
                "min.insync.replicas is 1: an acknowledged event may stand on a single broker",
                f"set it to {min(2, replicas)} (kafka-configs.sh --alter --topic {name} --add-config min.insync.replicas=2)",
            )
        )
    if replicas == 1 and nodes > 1:
        findings.append(
            Finding(
                subject, "warning", "a single replica: events are lost with their broker", "raise it to 3"
            )
        )
    return findings


def _advice(kafka: Kafka, why: str) -> str:
    lower = why.lower()
    if "certificate" in lower or "ssl" in lower:
        return "look at kafka.security_protocol and the kafka.ssl_… settings"
    if "authentication" in lower or "sasl" in lower:
        return "look at kafka.sasl_mechanism, sasl_username and sasl_password"
    if kafka.security_protocol == "PLAINTEXT":
        return (
            "are the brokers up, is host:port right, and do they want TLS or SASL (kafka.security_protocol)?"
        )
    return "are the brokers up, is host:port right, and does that port speak kafka.security_protocol?"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
