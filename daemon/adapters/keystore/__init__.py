"""Pipeline keys to sources: memory before Redis before PostgreSQL."""

from daemon.adapters.keystore.store import CachedKeyStore

__all__ = ["CachedKeyStore"]
