"""
`headgate run` with dummy workers: `python -m tests.support.crew.run SETTINGS.json`.

The file holds Settings as JSON and is read again at each reload.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from daemon.config.schema import Settings
from daemon.errors import SettingsError
from daemon.roles import Role
from daemon.supervisor.main import run

ROLES = (
    Role("embedded", "tests.support.crew.plain", rolls=False),
    Role("publisher", "tests.support.crew.plain"),
    Role("frontend", "tests.support.crew.frontend"),
)


def main() -> int:
    file = Path(sys.argv[1])

    def load() -> Settings:
        try:
            return msgspec.json.decode(file.read_bytes(), type=Settings)
        except msgspec.ValidationError as error:
            raise SettingsError(str(error), str(error).rpartition("$.")[2].rstrip("`")) from error

    def resolve(settings: Settings) -> Settings:
        postgres = msgspec.structs.replace(
            settings.postgres, dsn=settings.postgres.dsn or "postgresql://embedded"
        )
        return msgspec.structs.replace(settings, postgres=postgres)

    async def announce(settings: Settings) -> None:
        with (Path(settings.data_dir) / "diary").open("a") as diary:
            diary.write("announced\n")

    settings = load()
    return run(
        settings, load, announce, run_dir=Path(settings.data_dir) / "run", resolve=resolve, roles=ROLES
    )


if __name__ == "__main__":
    sys.exit(main())
