"""
Secrets that must be known in clear again, sealed with AES-256-GCM while they lie in PostgreSQL.

The key is `security.sealing_key`, or is made once and kept in `<data_dir>/sealing.key`. Whoever has
the database but not the key has no secrets.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from daemon.config.schema import Settings
from daemon.errors import HeadgateError, SettingsError

log = logging.getLogger(__name__)

KEY_BYTES = 32
_NONCE_BYTES = 12
#: First byte of everything sealed: how it was done.
_VERSION = b"\x01"
FILE_NAME = "sealing.key"


class Sealer:
    """Seals and opens secrets. `context` (say, a source's id) must be the same both times."""

    def __init__(self, key: bytes) -> None:
        """`key`: 32 bytes."""
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, context: str) -> bytes:
        """The secret as it may be stored."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, secret, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """The secret again. Raises HeadgateError when the key or the context is another one."""
        if sealed[:1] != _VERSION:
            raise HeadgateError(f"the secret of {context} was sealed by a newer Headgate")
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, body, context.encode())
        except InvalidTag:
            raise HeadgateError(
                f"the secret of {context} can't be opened: it was sealed with another security.sealing_key "
                f"(or another {FILE_NAME}); restore that, or make new keys"
            ) from None


def load_sealer(settings: Settings) -> Sealer:
    """
    The sealer of this installation; its key is made when there is none.

    Raises SettingsError for a key file that can't be read, made or used.
    """
    if settings.security.sealing_key:
        return Sealer(bytes.fromhex(settings.security.sealing_key))
    path = Path(settings.data_dir) / FILE_NAME
    try:
        text = _read_or_make(path)
    except OSError as error:
        raise SettingsError(
            f"the sealing key {path} can't be read or made: {error}", "security.sealing_key"
        ) from None
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError(
            f"{path} does not hold {2 * KEY_BYTES} hex digits: restore it from a backup (without it the "
            "secrets in PostgreSQL are lost), or remove it and make new keys",
            "security.sealing_key",
        )
    return Sealer(key)


def _read_or_make(path: Path) -> str:
    """The file's text. Made by whoever comes first, whole from the moment it is there."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            write_private(draft, f"{secrets.token_hex(KEY_BYTES)}\n")
            try:
                os.link(draft, path)  # unlike a rename this never replaces another process's key
            except FileExistsError:
                log.debug("another process has made %s", path)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)
        return path.read_text(encoding="ascii")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        log.warning("%s can be read by others than its owner: chmod 600 it", path)
    return text


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner can read, to the disk. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
