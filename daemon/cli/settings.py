"""The settings of a command: as everywhere, and with the data folder as an absolute path."""

from __future__ import annotations

from pathlib import Path

import msgspec

from daemon.config.load import config_path, load
from daemon.config.schema import Settings


def read_settings(config: str | None) -> Settings:
    """
    Load the settings from the file `config` (None: HEADGATE_CONFIG's, else none), credentials and environment.

    A relative data_dir counts from the working folder. Raises SettingsError.
    """
    settings = load(config_path(given=config))
    data_dir = Path(settings.data_dir).expanduser().absolute()
    return msgspec.structs.replace(settings, data_dir=str(data_dir))
