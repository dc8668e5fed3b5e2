"""How far behind a feed is, in time: the receipt of the oldest record that is not stored."""

from __future__ import annotations

from daemon.ports import Fetched


class Progress:
    """Times are Unix milliseconds."""

    def __init__(self) -> None:
        self._in_hand_ms = 0
        self._done_ms = 0
        self._caught_up_ms = 0

    def taken(self, records: list[Fetched]) -> None:
        """These are being stored."""
        self._in_hand_ms = min((record.timestamp_ms for record in records), default=0)

    def done(self, records: list[Fetched]) -> None:
        """These are stored."""
        self._in_hand_ms = 0
        self._done_ms = max((record.timestamp_ms for record in records), default=self._done_ms)

    def dropped(self) -> None:
        """What was in hand is not: it will come again."""
        self._in_hand_ms = 0

    def caught_up(self, now_ms: int) -> None:
        """There was nothing more to read at `now_ms`."""
        self._caught_up_ms = now_ms

    @property
    def oldest_ms(self) -> int:
        """
        The receipt of the oldest record that waits, if one does; 0: unknown.

        What is in hand is known. Of what is not read yet it is known that it came after the newest stored one
        and after the moment at which there was nothing.
        """
        return self._in_hand_ms or max(self._done_ms, self._caught_up_ms)
