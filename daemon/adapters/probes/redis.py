"""Redis or Valkey, as `headgate check` looks at it."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from daemon.adapters.probes.finding import Finding
from daemon.adapters.redis.address import parse_url
from daemon.errors import SettingsError

SUBJECT = "redis"

#: Longer than the daemon waits: a check should tell a slow server from none.
TIMEOUT_S = 5.0

#: Scripts with `EVALSHA`, hash fields' expiry and functions as they are used.
VERSION_MIN = (6, 2)


async def probe_redis(url: str) -> list[Finding]:
    """Try the server at `url`: reach, version, eviction, persistence."""
    try:
        place = parse_url(url).shown
    except SettingsError as error:
        return [Finding(SUBJECT, "failed", str(error))]
    client = Redis.from_url(
        url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    try:
        info: dict[str, Any] = await client.info()
        policy = await _policy(client, info)
    except AuthenticationError as error:
        return [
            Finding(
                SUBJECT, "failed", f"{place} refuses user or password: {error}", "correct them in redis.url"
            )
        ]
    except NoPermissionError as error:
        return [Finding(SUBJECT, "warning", f"{place} answers, but does not say how it is set up: {error}")]
    except (RedisError, OSError, ValueError) as error:
        advice = "start the server, or correct redis.url"
        return [Finding(SUBJECT, "failed", f"{place} can't be reached: {error}", advice)]
    finally:
        await client.aclose()
    return _judge(place, info, policy)


async def _policy(client: Redis, info: dict[str, Any]) -> str:
    """What is evicted when memory is full; hosted servers often allow no CONFIG, but INFO tells it too."""
    if "maxmemory_policy" in info:
        return str(info["maxmemory_policy"])
    try:
        return str((await client.config_get("maxmemory-policy")).get("maxmemory-policy", ""))
    except ResponseError:
        return ""


def _judge(place: str, info: dict[str, Any], policy: str) -> list[Finding]:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version", "?"))
    findings = [Finding(SUBJECT, "ok", f"{name} {version} at {place}")]
    speaks = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2] if part.isdigit())
    if speaks < VERSION_MIN:
        wanted = ".".join(map(str, VERSION_MIN))
        findings.append(
            Finding(
                SUBJECT,
                "failed",
                f"{place} speaks only Redis {version}",
                f"take Redis {wanted} or later, or Valkey",
            )
        )
    if info.get("cluster_enabled"):
        findings.append(
            Finding(
                SUBJECT,
                "failed",
                f"{place} is a node of a cluster",
                "name a single server (or a primary with replicas): scripts here use several keys at once",
            )
        )
    if info.get("role") == "slave":
        findings.append(
            Finding(
                SUBJECT,
                "failed",
                f"{place} is a replica, and can't be written",
                "name the primary in redis.url",
            )
        )
    if policy and policy != "noeviction" and int(info.get("maxmemory", 0)):
        findings.append(
            Finding(
                SUBJECT,
                "warning",
                f"maxmemory-policy is {policy}: claims and limits may be evicted, and duplicates pass",
                "set maxmemory-policy noeviction",
            )
        )
    if not int(info.get("aof_enabled", 0)):
        findings.append(
            Finding(
                SUBJECT,
                "warning",
                "no append-only file: a restart of the server forgets claims, limits and visitors' identities",
                "set appendonly yes",
            )
        )
    elif info.get("aof_last_write_status", "ok") != "ok":
        findings.append(
            Finding(SUBJECT, "failed", "its append-only file can't be written", "look at its disk and log")
        )
    return findings
