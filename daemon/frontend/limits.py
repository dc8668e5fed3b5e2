"""A key's rate limit at the door (contracts 0.1.9)."""

from __future__ import annotations

from daemon.config.schema import Limits
from daemon.events.outcome import Outcome
from daemon.frontend.refusal import Refusal, whole_seconds
from daemon.ports import Limited, RateLimiter


def taken(limiter: RateLimiter, caller: Limited, limits: Limits) -> bool:
    """Whether a request out of the caller's bucket was at hand; nothing is taken else: then it is `take`'s turn."""
    return (
        limiter.take(caller.id, caller.rate_per_s or limits.rate_per_s, caller.burst or limits.burst) == 0.0
    )


async def take(limiter: RateLimiter, caller: Limited, limits: Limits) -> None:
    """Take one request out of the caller's bucket, or refuse (429) with when to come back."""
    rate_per_s = caller.rate_per_s or limits.rate_per_s
    burst = caller.burst or limits.burst
    wait_s = await limiter.acquire(caller.id, rate_per_s, burst)
    if wait_s > 0:
        retry_s = whole_seconds(wait_s)
        raise Refusal(
            Outcome.RATE_LIMITED,
            f"Rate limit exceeded. Retry after {retry_s} seconds.",
            [
                ("retry-after", str(retry_s)),
                # draft-ietf-httpapi-ratelimit-headers: what is left of which quota, and the quota itself
                ("ratelimit", f'"key";r=0;t={retry_s}'),
                ("ratelimit-policy", f'"key";q={burst};w={whole_seconds(burst / rate_per_s)}'),
            ],
        )
