"""`headgate check` as a process: good settings, bad ones, servers that are away, and no secret in any output."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from daemon.adapters.kafka import KafkaLog
from daemon.config.load import load
from daemon.errors import SettingsError, Unavailable
from tests.servers.kafka import KafkaServer, Security
from tests.support.command import Command

SECRETS = ("pg-secret", "redis-secret", "sasl-secret", "ssl-secret", "ab" * 32)


@pytest.fixture
def headgate(tmp_path: Path) -> Iterator[Command]:
    """The command with free ports and a data folder that is not there yet."""
    # Bound without listening: whoever names the port can have it, but nobody is given it by chance meanwhile.
    with socket.socket() as ingest, socket.socket() as admin:
        for one in (ingest, admin):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        yield Command(
            HEADGATE_DATA_DIR=str(tmp_path / "data"),
            HEADGATE_INGEST_PORT=str(ingest.getsockname()[1]),
            HEADGATE_ADMIN_PORT=str(admin.getsockname()[1]),
        )


def checked(headgate: Command, *, code: int = 0) -> dict[str, tuple[str, str]]:
    """Run `check --json`: subject → state and text, of the worst finding of each subject."""
    document = headgate.json("check", code=code)
    assert document["ok"] is (code == 0)
    order = ("ok", "warning", "failed")
    worst: dict[str, dict[str, Any]] = {}
    for finding in document["checks"]:
        if finding["state"] != "ok":
            assert finding["advice"] or finding["subject"] in finding["text"] or "set " in finding["text"], (
                finding
            )
        before = worst.get(finding["subject"])
        if before is None or order.index(finding["state"]) > order.index(before["state"]):
            worst[finding["subject"]] = finding
    return {subject: (finding["state"], finding["text"]) for subject, finding in worst.items()}


def test_on_a_fresh_machine_all_is_well_and_nothing_is_changed(headgate: Command, tmp_path: Path) -> None:
    found = checked(headgate)
    assert {state for state, _ in found.values()} == {"ok"}
    assert "embedded" in found["postgres"][1]
    assert "local log" in found["kafka"][1]
    assert list(tmp_path.iterdir()) == []
    text = headgate("check").stdout
    assert "all is well" in text
    assert f"data_dir = {tmp_path / 'data'}" in text
    assert "server.admin_port" in text
    assert "limits.burst" not in text


def test_servers_of_one_s_own_are_tried(headgate: Command, postgres_dsn: str, redis_url: str) -> None:
    headgate = headgate.with_(HEADGATE_POSTGRES__DSN=postgres_dsn, HEADGATE_REDIS__URL=redis_url)
    found = checked(headgate)
    assert found["postgres"][1].startswith("PostgreSQL 18")
    assert "version 0 of" in found["postgres schema"][1]
    assert found["redis"][1].startswith("Valkey 9")
    headgate("sources", "list")
    assert "the newest" in checked(headgate)["postgres schema"][1]


def test_what_redis_should_do_otherwise_is_a_warning(headgate: Command, redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        before = client.config_get("maxmemory*")
        client.config_set("maxmemory", "200mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            state, text = checked(headgate.with_(HEADGATE_REDIS__URL=redis_url))["redis"]
        finally:
            client.config_set("maxmemory", before["maxmemory"])
            client.config_set("maxmemory-policy", before["maxmemory-policy"])
    assert (state, "allkeys-lru" in text) == ("warning", True)


def test_a_schema_of_a_newer_headgate_fails(headgate: Command, postgres_dsn: str) -> None:
    import asyncpg

    headgate = headgate.with_(HEADGATE_POSTGRES__DSN=postgres_dsn)
    headgate("sources", "list")

    async def age() -> None:
        connection = await asyncpg.connect(postgres_dsn)
        await connection.execute(
            "INSERT INTO headgate_schema (version, name) VALUES (999, 'from the future')"
        )
        await connection.close()

    asyncio.run(age())
    state, text = checked(headgate, code=Unavailable.exit_code)["postgres schema"]
    assert (state, "999" in text) == ("failed", True)


def test_everything_away_is_told_each_by_itself_and_no_secret_is_shown(headgate: Command) -> None:
    headgate = headgate.with_(
        HEADGATE_POSTGRES__DSN="postgresql://me:pg-secret@127.0.0.1:1/db",
        HEADGATE_REDIS__URL="redis://me:redis-secret@127.0.0.1:1",
        HEADGATE_KAFKA__BROKERS="127.0.0.1:1",
        HEADGATE_KAFKA__SECURITY_PROTOCOL="SASL_PLAINTEXT",
        HEADGATE_KAFKA__SASL_USERNAME="me",
        HEADGATE_KAFKA__SASL_PASSWORD="sasl-secret",
        HEADGATE_KAFKA__SSL_KEY_PASSWORD="ssl-secret",
        HEADGATE_SECURITY__SEALING_KEY="ab" * 32,
    )
    found = checked(headgate, code=Unavailable.exit_code)
    for subject in ("postgres", "redis", "kafka"):
        assert found[subject][0] == "failed"
        assert "127.0.0.1:1" in found[subject][1]
    for output in (headgate("check", code=69), headgate("check", "--json", code=69)):
        for secret in SECRETS:
            assert secret not in output.stdout + output.stderr
        assert "postgres.dsn" in output.stdout


def test_a_taken_port_is_told_with_who_has_it(headgate: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = checked(headgate.with_(HEADGATE_INGEST_PORT=str(port)), code=Unavailable.exit_code)
    state, text = found["ingest port"]
    assert state == "failed"
    assert f"127.0.0.1:{port} is taken by" in text


def test_a_data_folder_that_can_not_be_made_fails(headgate: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    found = checked(
        headgate.with_(HEADGATE_DATA_DIR=str(tmp_path / "file" / "data")), code=Unavailable.exit_code
    )
    assert found["data folder"][0] == "failed"


def test_too_little_room_fails(headgate: Command) -> None:
    found = checked(headgate.with_(HEADGATE_LOG__HEADROOM_BYTES=str(2**60)), code=Unavailable.exit_code)
    assert found["data folder"][0] == "failed"
    assert "log.headroom_bytes" in found["data folder"][1]


def test_bad_settings_are_one_line_and_78_and_their_values_stay_hidden(
    headgate: Command, tmp_path: Path
) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text('[kafka]\nsasl_pasword = "sasl-secret"\n')
    text = headgate.error("check", "--config", str(file), code=SettingsError.exit_code)
    assert "kafka.sasl_pasword" in text
    assert "kafka.sasl_password" in text
    assert "sasl-secret" not in text
    error = json.loads(headgate("check", "--config", str(file), "--json", code=78).stderr)["error"]
    assert error["kind"] == "SettingsError"


def test_a_secret_in_a_file_for_all_to_read_is_a_warning(headgate: Command, tmp_path: Path) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text('[kafka]\nsasl_password = "sasl-secret"\n')
    headgate = headgate.with_(HEADGATE_CONFIG=str(file))
    file.chmod(0o644)
    state, text = checked(headgate)["settings"]
    assert (state, "kafka.sasl_password" in text) == ("warning", True)
    assert "sasl-secret" not in headgate("check").stdout
    file.chmod(0o640)
    assert checked(headgate)["settings"][0] == "ok"


async def test_kafka_s_topics_are_looked_at_and_not_made(headgate: Command, kafka: KafkaServer) -> None:
    headgate = headgate.with_(
        HEADGATE_KAFKA__BROKERS=kafka.bootstrap,
        HEADGATE_KAFKA__TOPIC_RAW="cli-check-raw",
        HEADGATE_KAFKA__TOPIC_DLQ="cli-check-dlq",
    )
    found = checked(headgate)
    assert found["kafka"] == ("ok", f"1 broker at {kafka.bootstrap} (PLAINTEXT)")
    assert "will be made with 12 partitions" in found["kafka cli-check-raw"][1]
    missing = checked(headgate.with_(HEADGATE_KAFKA__CREATE_TOPICS="false"), code=Unavailable.exit_code)
    assert missing["kafka cli-check-dlq"][0] == "failed"
    assert "missing" in missing["kafka cli-check-dlq"][1]
    many = checked(headgate.with_(HEADGATE_KAFKA__REPLICATION_FACTOR="3"), code=Unavailable.exit_code)
    assert "3 replicas on 1 broker" in many["kafka cli-check-raw"][1]
    log = KafkaLog(load(None, headgate.variables).kafka, ["cli-check-raw"])
    await log.start()
    await log.stop()
    state, text = checked(headgate)["kafka cli-check-raw"]
    assert (state, text) == ("ok", "12 partitions, 1 replica, min.insync.replicas 1")
    assert "missing" in checked(headgate)["kafka cli-check-dlq"][1]


async def test_kafka_s_login_is_tried(headgate: Command, new_kafka: Callable[..., KafkaServer]) -> None:
    server = new_kafka(security=Security("SASL_PLAINTEXT", password="sasl-secret"))
    await server.start()
    headgate = headgate.with_(
        HEADGATE_KAFKA__BROKERS=server.bootstrap,
        HEADGATE_KAFKA__SECURITY_PROTOCOL="SASL_PLAINTEXT",
        HEADGATE_KAFKA__SASL_USERNAME="headgate",
        HEADGATE_KAFKA__SASL_PASSWORD="sasl-secret",
    )
    assert checked(headgate)["kafka"][1].endswith("(SASL_PLAINTEXT PLAIN)")
    wrong = headgate.with_(HEADGATE_KAFKA__SASL_PASSWORD="another")
    document = wrong.json("check", code=Unavailable.exit_code)
    [failed] = [finding for finding in document["checks"] if finding["state"] == "failed"]
    assert failed["subject"] == "kafka"
    assert "sasl_password" in failed["advice"]
