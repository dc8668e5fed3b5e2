from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.observe.logs import TEXT_CHARS_MAX, ConsoleFormatter, Damper, JsonFormatter, masked


def record(
    message: str, *args: object, level: int = logging.INFO, name: str = "daemon.test", **extra: object
) -> logging.LogRecord:
    return logging.getLogger(name).makeRecord(name, level, "f", 1, message, args, None, extra=extra)


def test_a_line_has_the_fixed_fields_and_extras_apart() -> None:
    line = json.loads(
        JsonFormatter("frontend", 2).format(record("published %d", 3, request_id="r-1", batch={"n": 3}))
    )
    assert set(line) == {"time", "level", "logger", "role", "slot", "pid", "message", "extra"}
    assert (line["role"], line["slot"], line["pid"]) == ("frontend", 2, os.getpid())
    assert (line["level"], line["logger"], line["message"]) == ("info", "daemon.test", "published 3")
    assert line["extra"] == {"request_id": "r-1", "batch": {"n": 3}}
    assert line["time"].endswith("Z")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("dsn postgresql://app:s3cr3t@db/x failed", "dsn postgresql://app:•••@db/x failed"),
        ("redis://:pass@host:1/0", "redis://:•••@host:1/0"),
        ("key dk_abcdefgh12 and sk_0123456789abcdef", "key dk_••• and sk_•••"),
        ("cdp_live_abcdefghij tl_ABCDEFGHIJ", "cdp_live_••• tl_•••"),
        ("http://localhost:8080/v1/t is no secret", "http://localhost:8080/v1/t is no secret"),
        ("risk_assessment and task_description", "risk_assessment and task_description"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    line = json.loads(JsonFormatter("x", None).format(record("%s", text, inner=[text])))
    assert line["message"] == shown
    assert line["extra"]["inner"] == [shown]


def test_nothing_that_is_logged_breaks_the_line() -> None:
    """Lone surrogates, line ends, unknown types and endless texts."""
    formatter = JsonFormatter("x", None)
    for text in ("\ud800", "a\nb", "x" * (TEXT_CHARS_MAX * 2), "\x00"):
        line = formatter.format(record("%s", text, thing=object(), more={1: text}))
        assert "\n" not in line
        assert json.loads(line)["message"]
        assert len(line) < TEXT_CHARS_MAX * 3


def test_a_traceback_is_in_the_line() -> None:
    try:
        raise ValueError("at redis://u:hidden@h")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    line = json.loads(JsonFormatter("x", None).format(made))
    assert "ValueError: at redis://u:•••@h" in line["exception"]
    assert "Traceback" in ConsoleFormatter("x", 0, colour=False).format(made)


def test_a_console_line_is_readable() -> None:
    line = ConsoleFormatter("frontend", 1, colour=False).format(
        record("hello", level=logging.WARNING, request_id="r")
    )
    assert line.split()[1:] == ["WARNING", "frontend/1", "hello", "request_id=r"]
    assert "\x1b[33m" in ConsoleFormatter("frontend", 1, colour=True).format(
        record("x", level=logging.WARNING)
    )


def test_noisy_libraries_are_damped_and_say_how_much_was_left_out() -> None:
    now = 0.0
    damper = Damper(("aiokafka",), lines_max=2, window_s=10.0, clock=lambda: now)
    passed = [damper.filter(record("no broker", name="aiokafka.conn")) for _ in range(5)]
    assert passed == [True, True, False, False, False]
    assert damper.filter(record("another text", name="aiokafka.conn"))
    assert all(damper.filter(record("ours", name="daemon.x")) for _ in range(5))
    now = 11.0
    again = record("no broker", name="aiokafka.conn")
    assert damper.filter(again)
    assert vars(again)["left_out"] == 3


def test_lines_for_the_journal_have_its_priority(tmp_path: Path) -> None:
    """The prefix comes only where standard error is what $JOURNAL_STREAM names."""
    code = (
        "import logging; from daemon.observe import logs;"
        "logs.setup(level='info', style='json', role='x');"
        "logging.getLogger('a').error('bad'); logging.getLogger('a').debug('unseen')"
    )
    with (tmp_path / "err").open("wb") as stderr:
        found = os.fstat(stderr.fileno())
        for stream in (f"{found.st_dev}:{found.st_ino}", "1:1"):
            environ = {**os.environ, "JOURNAL_STREAM": stream}
            subprocess.run([sys.executable, "-c", code], stderr=stderr, env=environ, check=True)
    first, second = (tmp_path / "err").read_text().splitlines()
    assert first.startswith("<3>{")
    assert json.loads(second)["message"] == "bad"
