"""The settings of ResultFly."""

from __future__ import annotations

from pathlib import Path

import phonenumbers
import pytest

from daemon.config.load import load
from daemon.config.regions import REGIONS
from daemon.errors import SettingsError


def test_the_countries_are_the_librarys() -> None:
    assert frozenset(phonenumbers.SUPPORTED_REGIONS) == REGIONS


def test_a_tenants_country() -> None:
    environ = {"HEADGATE_RESULTFLY__DEFAULT_REGION": "US", "HEADGATE_RESULTFLY__REGIONS": "acme=DE, none="}
    resultfly = load(None, environ).resultfly
    assert [resultfly.region(tenant) for tenant in ("acme", "other", "none")] == ["DE", "US", ""]
    assert load(None, {}).resultfly.region("acme") == ""
    assert load(None, {}).resultfly.window_s == 30 * 86400


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ('default_region = "UK"', "resultfly.default_region", "GB"),
        ('default_region = "de"', "resultfly.default_region", "such as DE"),
        ('default_region = "Germany"', "resultfly.default_region", "two capital letters"),
        ('regions = {acme = "XX"}', "resultfly.regions.acme", "'XX'"),
        ("regions = {acme = 49}", "resultfly.regions[...]", "str"),
        ("window_s = 0", "resultfly.window_s", "> 0"),
    ],
)
def test_bad_ones_are_named(tmp_path: Path, text: str, key: str, hint: str) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text(f"[resultfly]\n{text}\n")
    with pytest.raises(SettingsError) as caught:
        load(file, {})
    assert caught.value.key == key
    assert hint in str(caught.value)
