"""Settings: where they come from, what is refused, and that no secret shows."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from daemon.config import reference
from daemon.config.load import config_path, load
from daemon.config.schema import REDACTED, Section, Settings, visible
from daemon.errors import SettingsError

CONFIG = Path(__file__).parents[2] / "config"


def written(folder: Path, text: str) -> Path:
    """A settings file with `text`."""
    path = folder / "headgate.toml"
    path.write_text(text)
    return path


def test_the_reference_file_is_the_schema() -> None:
    """config/headgate.toml is what `python -m daemon.config.reference` prints."""
    assert (CONFIG / "headgate.toml").read_text() == reference.text()


def test_the_reference_file_changes_nothing(tmp_path: Path) -> None:
    """As it stands it gives the defaults; with every key uncommented too."""
    assert load(CONFIG / "headgate.toml", {}) == Settings()
    lines = (CONFIG / "headgate.toml").read_text().splitlines()
    keys = [line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in lines]
    assert load(written(tmp_path, "\n".join(keys)), {}) == Settings()


def test_the_development_file_is_taken() -> None:
    """make run uses it."""
    assert load(CONFIG / "dev.toml", {}).development


def test_the_environment_wins_over_credentials_over_the_file(tmp_path: Path) -> None:
    """In that order."""
    path = written(tmp_path, '[postgres]\ndsn = "file"\npool_max = 2\n[redis]\nurl = "file"\n')
    (tmp_path / "postgres.dsn").write_text("credential\n")
    (tmp_path / "redis.url").write_text("credential\n")
    settings = load(path, {"CREDENTIALS_DIRECTORY": str(tmp_path), "HEADGATE_REDIS__URL": "environment"})
    assert (settings.postgres.dsn, settings.postgres.pool_max, settings.redis.url) == (
        "credential",
        2,
        "environment",
    )


def test_the_short_names_of_the_environment() -> None:
    """The names that scripts rely on."""
    settings = load(
        None,
        {
            "HEADGATE_MODE": "development", "HEADGATE_DATA_DIR": "/d", "HEADGATE_INGEST_PORT": "1",
            "HEADGATE_ADMIN_PORT": "2", "HEADGATE_DASHBOARD_PORT": "3", "HEADGATE_KAFKA__BROKERS": "a:1, b:2,",
            "HEADGATE_KAFKA__CREATE_TOPICS": "false", "HEADGATE_FRONTEND__TICK_S": "0.002", "HEADGATE_OTHER": "ignored",
            "HEADGATE_SERVER__TRUSTED_PROXIES": "",
        },
    )  # fmt: skip
    assert settings.data_dir == "/d"
    assert (settings.server.ingest_port, settings.server.admin_port, settings.server.dashboard_port) == (
        1,
        2,
        3,
    )
    assert settings.kafka.brokers == ("a:1", "b:2")
    assert settings.kafka.create_topics is False
    assert settings.frontend.tick_s == 0.002
    assert settings.server.trusted_proxies == ()


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("mod = 'production'", "mod", "did you mean mode?"),
        ("[kafak]\nbrokers=[]", "kafak", "did you mean kafka?"),
        ("[kafka]\nbroker=[]", "kafka.broker", "did you mean kafka.brokers?"),
        ("[server]\npool_max=3", "server.pool_max", "did you mean postgres.pool_max?"),
        ("[server]\ningest_port=0", "server.ingest_port", ">= 1"),
        ("[server]\ningest_port='x'", "server.ingest_port", "int"),
        ("[server]\nadmin_port=8080", "server.ingest_port", "both 8080"),
        ("[server]\ntrusted_proxies=['here']", "server.trusted_proxies", "10.0.0.0/8"),
        ("[kafka]\nbrokers=['localhost']", "kafka.brokers", "host:port"),
        ("[kafka]\nbrokers='a:1'", "kafka.brokers", "array"),
        ("[kafka]\nsecurity_protocol='SASL_SSL'", "kafka.sasl_username", "SASL"),
        ("[kafka]\nsecurity_protocol='TLS'", "kafka.security_protocol", "TLS"),
        ("[publisher]\nack_deadline_s=4.0", "publisher.ack_deadline_s", "below"),
        ("[frontend]\nanswer_timeout_s=5.0", "frontend.answer_timeout_s", "below"),
        ("[security]\nsealing_key='abc'", "security.sealing_key", "regex"),
        ("server = 3", "server", "table"),
        ("mode = 'test'", "mode", "test"),
    ],
)
def test_bad_settings_name_their_key(tmp_path: Path, text: str, key: str, hint: str) -> None:
    """And say what to do."""
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, text), {})
    assert caught.value.key == key
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("HEADGATE_KAFKA__BROKER", "HEADGATE_KAFKA__BROKERS"),
        ("HEADGATE_KAFKAS__BROKERS", "HEADGATE_KAFKA__BROKERS"),
        ("HEADGATE_FRONTEND__COUNTS", "HEADGATE_FRONTEND__COUNT"),
    ],
)
def test_unknown_names_in_the_environment(name: str, hint: str) -> None:
    """The nearest known one is suggested."""
    with pytest.raises(SettingsError, match=hint):
        load(None, {name: "1"})


def test_files_that_are_none(tmp_path: Path) -> None:
    """Missing, a folder, broken TOML, not UTF-8."""
    for path in (tmp_path / "absent.toml", tmp_path, written(tmp_path, "[kafka")):
        with pytest.raises(SettingsError):
            load(path, {})
    (tmp_path / "latin.toml").write_bytes(b'mode = "\xe4"')
    with pytest.raises(SettingsError):
        load(tmp_path / "latin.toml", {})


def test_secrets_never_show() -> None:
    """Neither in a repr nor in what `check` prints, nor in the message about a bad one."""
    settings = load(
        None,
        {
            "HEADGATE_POSTGRES__DSN": "postgresql://u:hunter2@h/d", "HEADGATE_REDIS__URL": "redis://:hunter2@h",
            "HEADGATE_KAFKA__SASL_PASSWORD": "hunter2",
        },
    )  # fmt: skip
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(visible(settings))
    assert visible(settings)["postgres"]["dsn"] == REDACTED
    with pytest.raises(SettingsError) as caught:
        load(None, {"HEADGATE_SECURITY__SEALING_KEY": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_settings_go_to_children_unchanged() -> None:
    """The supervisor sends them as JSON."""
    settings = load(CONFIG / "dev.toml", {"HEADGATE_KAFKA__BROKERS": "a:1"})
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings
    assert isinstance(settings.kafka, Section)


def test_which_file() -> None:
    """--config, else HEADGATE_CONFIG, else none."""
    assert config_path({"HEADGATE_CONFIG": "/a"}, "/b") == Path("/b")
    assert config_path({"HEADGATE_CONFIG": "/a"}) == Path("/a")
    assert config_path({"HEADGATE_CONFIG": ""}) is None
    assert config_path({}) is None
