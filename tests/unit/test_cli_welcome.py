"""What `headgate run` prints, and what it must not print."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from daemon.adapters.postgres.demo import CONTRACT, EVENT_TYPE
from daemon.cli.checking.digest import differences
from daemon.cli.welcome import curl_line, demo_source, welcome
from daemon.config.address import reachable
from daemon.config.load import load
from daemon.events import resultfly
from daemon.events.contract.validator import Validator
from daemon.events.tracklayer import decode

SOURCE = {
    "id": "src_1",
    "tenant": "demo",
    "pipeline_key": "dk_live_abcDEF123",
    "secret_key": "sk_live_xyz789",
}

MERCHANT = {
    "merchant_id": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "tenant": "demo",
    "api_key": "tl_live_ghiJKL456",
}

CDP_KEY = {"tenant": "demo", "api_key": "cdp_live_mnoPQR789", "scopes": ["cdp:events:write"]}


def shown(line: str) -> list[str]:
    """The arguments that a shell would give to curl."""
    done = subprocess.run(
        ["sh", "-c", line.replace("curl ", "printf '%s\\n' ", 1)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def write_credentials(folder: Path) -> None:
    (folder / "credentials.json").write_text(
        json.dumps({"sources": [SOURCE], "merchants": [MERCHANT], "cdp_keys": [CDP_KEY]})
    )


def test_in_development_all_is_there_to_be_pasted(tmp_path: Path) -> None:
    write_credentials(tmp_path)
    settings = load(
        None,
        {"HEADGATE_MODE": "development", "HEADGATE_DATA_DIR": str(tmp_path), "HEADGATE_INGEST_PORT": "8123"},
    )
    environ = {
        "HEADGATE_CONFIG": "config/my file.toml",
        "HEADGATE_POSTGRES__DSN": "postgresql://u:hidden@h/d",
    }
    text = welcome(settings, ".venv/bin/headgate", colour=False, environ=environ)
    for wanted in (
        *SOURCE.values(),
        "http://127.0.0.1:8123",
        "http://127.0.0.1:9090",
        "http://127.0.0.1:9090/docs",
        str(tmp_path / "credentials.json"),
    ):
        assert wanted in text
    assert "HEADGATE_CONFIG='config/my file.toml' .venv/bin/headgate tail --follow" in text
    assert "hidden" not in text
    assert "\x1b" not in text
    curl, track, cdp = [line.strip() for line in text.splitlines() if "curl " in line]
    assert curl.startswith("curl ")
    words = shlex.split(curl)
    assert words[0] == "curl"
    assert "http://127.0.0.1:8123/v1/t" in words
    assert "Authorization: Bearer dk_live_abcDEF123" in words
    assert json.loads(words[words.index("-d") + 1])["type"] == "track"
    words = shown(track)
    assert "http://127.0.0.1:8123/v1/events" in words
    assert "Authorization: Bearer tl_live_ghiJKL456" in words
    body = words[words.index("-d") + 1]
    event = decode(body.encode())
    assert (event.merchant_id, event.value) == (MERCHANT["merchant_id"], 129.99)
    assert shown(track)[-1] != body  # each time it is another event
    words = shown(cdp)
    assert "http://127.0.0.1:8123/v1/cdp/events" in words
    assert "Authorization: Bearer cdp_live_mnoPQR789" in words
    bought = resultfly.decode(words[words.index("-d") + 1].encode())
    assert bought.eventType == EVENT_TYPE
    resultfly.check_contract(bought, {EVENT_TYPE: Validator(EVENT_TYPE, CONTRACT)})


def test_in_production_no_key_is_printed_and_the_line_reads_it_from_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "a data folder's"
    folder.mkdir()
    write_credentials(folder)
    settings = load(None, {"HEADGATE_MODE": "production", "HEADGATE_DATA_DIR": str(folder)})
    text = welcome(settings, "headgate", colour=False, environ={})
    assert "dk_live" not in text
    assert "sk_live" not in text
    assert "tl_live_" not in text
    assert "cdp_live_" not in text
    assert str(folder / "credentials.json") in text
    source = demo_source(folder / "credentials.json")
    assert source is not None
    line = curl_line(settings, "http://127.0.0.1:8080", source, folder / "credentials.json")
    assert "Authorization: Bearer dk_live_abcDEF123" in shown(line)
    [track] = [one.strip() for one in text.splitlines() if "/v1/events" in one]
    assert "Authorization: Bearer tl_live_ghiJKL456" in shown(track)
    [cdp] = [one.strip() for one in text.splitlines() if "/v1/cdp/events" in one]
    assert "Authorization: Bearer cdp_live_mnoPQR789" in shown(cdp)


def test_colours_are_asked_for(tmp_path: Path) -> None:
    settings = load(None, {"HEADGATE_DATA_DIR": str(tmp_path)})
    assert "\x1b[1m" in welcome(settings, "headgate", colour=True, environ={})


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"sources":[]}', '{"sources":[{"id":"src_1"}]}', "[1]", '{"sources":[3]}', '{"sources":5}'],
)
def test_credentials_that_say_nothing_are_no_fault(text: str, tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text(text)
    assert demo_source(tmp_path / "credentials.json") is None
    settings = load(None, {"HEADGATE_DATA_DIR": str(tmp_path)})
    assert "tail --follow" in welcome(settings, "headgate", colour=False, environ={})


@pytest.mark.parametrize(
    ("host", "url_host"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "127.0.0.1"),
        ("::1", "[::1]"),
        ("10.0.0.7", "10.0.0.7"),
        ("", "127.0.0.1"),
    ],
)
def test_an_address_for_listening_becomes_one_for_calling(host: str, url_host: str) -> None:
    assert reachable(host) == url_host


def test_the_digest_names_what_differs_and_marks_secrets() -> None:
    settings = load(
        None,
        {
            "HEADGATE_INGEST_PORT": "8123",
            "HEADGATE_REDIS__URL": "redis://:pw@h",
            "HEADGATE_KAFKA__BROKERS": "a:1,b:2",
            "HEADGATE_LIMITS__BURST": "1000",
        },
    )
    assert differences(settings) == {
        "server.ingest_port": 8123,
        "redis.url": "•••",
        "kafka.brokers": ("a:1", "b:2"),
    }
