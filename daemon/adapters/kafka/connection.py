"""How to talk to the brokers: options for aiokafka's clients, its loggers, and why it could not connect."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

from daemon.config.schema import Kafka
from daemon.errors import SettingsError
from daemon.observe.logs import Damper

#: aiokafka says the same ten times a second while a broker is away; our own lines tell the outage.
LINES_MAX = 1
LINES_WINDOW_S = 30.0

#: The loggers that speak on failures (a filter holds for its own logger alone, not for those below).
LOGGERS = (
    "aiokafka",
    "aiokafka.client",
    "aiokafka.conn",
    "aiokafka.cluster",
    "aiokafka.consumer.consumer",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    # ours, which tries as often
    "daemon.adapters.kafka.producer",
)


class _LastWord(logging.Filter):
    """Keeps the last failure that aiokafka logged: its exception says only that no broker was reached."""

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING and "nable" in str(record.msg):
            self.text = record.getMessage()
        return True


_last_word = _LastWord()
_damper = Damper(LOGGERS, LINES_MAX, LINES_WINDOW_S)


def quiet() -> None:
    """Damp the loggers that speak of each try; may be called again."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if _damper not in logger.filters:
            logger.addFilter(_last_word)
            logger.addFilter(_damper)


def forget_reason() -> None:
    """Before a try: what was logged before is not its reason."""
    _last_word.text = ""


def reason(error: BaseException) -> str:
    """Why a connection failed, as exactly as it is known."""
    said = _last_word.text or str(error)
    return said or type(error).__name__


def client_options(kafka: Kafka) -> dict[str, Any]:
    """
    The keyword arguments that all of aiokafka's clients share.

    Raises SettingsError where files or settings of TLS and SASL don't fit together.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": list(kafka.brokers),
        "client_id": kafka.client_id,
        "security_protocol": kafka.security_protocol,
        "request_timeout_ms": int(kafka.request_timeout_s * 1000),
        "ssl_context": ssl_context(kafka),
    }
    if kafka.security_protocol.startswith("SASL"):
        if not kafka.sasl_username:
            raise SettingsError(
                f"kafka.security_protocol is {kafka.security_protocol}, but kafka.sasl_username is empty: "
                "set it and kafka.sasl_password",
                "kafka.sasl_username",
            )
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password,
        }
    return options


def ssl_context(kafka: Kafka) -> ssl.SSLContext | None:
    """The TLS settings, or None where the protocol has no TLS. Raises SettingsError for files that can't be used."""
    if "SSL" not in kafka.security_protocol.split("_"):
        return None
    if kafka.ssl_ca_file:
        _readable(kafka.ssl_ca_file, "kafka.ssl_ca_file")
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_ca_file or None)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(
            f"kafka.ssl_ca_file {kafka.ssl_ca_file} holds no certificates in PEM: {error}",
            "kafka.ssl_ca_file",
        ) from error
    context.check_hostname = kafka.ssl_check_hostname
    if kafka.ssl_key_file and not kafka.ssl_cert_file:
        raise SettingsError("kafka.ssl_key_file needs kafka.ssl_cert_file beside it", "kafka.ssl_cert_file")
    if kafka.ssl_cert_file:
        _readable(kafka.ssl_cert_file, "kafka.ssl_cert_file")
        if kafka.ssl_key_file:
            _readable(kafka.ssl_key_file, "kafka.ssl_key_file")
        try:
            # The password as a function: without one, OpenSSL would ask on the terminal.
            context.load_cert_chain(
                kafka.ssl_cert_file, kafka.ssl_key_file or None, lambda: kafka.ssl_key_password
            )
        except (ssl.SSLError, OSError, ValueError) as error:
            raise SettingsError(
                f"kafka.ssl_cert_file {kafka.ssl_cert_file} and its key can't be used together "
                f"(both in PEM? kafka.ssl_key_password right?): {error}",
                "kafka.ssl_cert_file",
            ) from error
    return context


def _readable(name: str, key: str) -> None:
    try:
        with Path(name).open("rb"):
            pass
    except OSError as error:
        raise SettingsError(f"{key} {name} can't be read: {error.strerror}", key) from error
