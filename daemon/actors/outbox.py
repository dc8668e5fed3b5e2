"""
The frontend's way to the publishers: records out, one answer per publish back.

    future = outbox.publish("raw-events", batches, records, size_bytes)   # raises LogUnavailable when full
    durability = await future                                             # raises LogUnavailable

A partition belongs to one publisher (partition modulo publishers), so a visitor's events stay in
order. What is not answered is kept and sent again when a publisher was gone: the ids are the same,
so a copy does no harm. A publisher that stays away loses its partitions to another one until it is
back; order across such an outage is not promised.

Bounded in records and bytes. One timer sweeps the answers that did not come in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from daemon.actors.frames import pack
from daemon.actors.link import Entry, Link, Pending
from daemon.actors.messages import Ack, Nack, Publish
from daemon.config.schema import Settings
from daemon.errors import LogUnavailable, SettingsError
from daemon.observe.catalog import OutboxMetrics
from daemon.ports import Durability, PartitionBatch

#: Seconds that `start` waits for the publishers' first word; the connecting goes on behind it.
START_WAIT_S = 10.0

#: Room in a frame beside a record's body: what the envelope adds (user agent, URLs, cookies) and the framing.
ENVELOPE_BYTES = 64 * 1024


class Outbox:
    """All publishers as one queue. Lives in one event loop."""

    def __init__(
        self,
        paths: Sequence[str],
        *,
        slot: int,
        settings: Settings,
        metrics: OutboxMetrics,
    ) -> None:
        """
        `paths` are the publishers' sockets by slot; `slot` is this frontend's, for the publishers' logs.

        Raises SettingsError when a frame could not hold the largest body that is let in.
        """
        if not paths:
            raise SettingsError("there is no publisher to send to: publisher.count is 0", "publisher.count")
        self._frame_bytes_max = settings.publisher.frame_bytes_max
        needed = max(settings.limits.body_bytes_max, settings.limits.item_bytes_max) + ENVELOPE_BYTES
        if self._frame_bytes_max < needed:
            raise SettingsError(
                f"publisher.frame_bytes_max is {self._frame_bytes_max}, but one event can take {needed} bytes "
                "(limits.body_bytes_max and the envelope): raise the one or lower the other",
                "publisher.frame_bytes_max",
            )
        self._answer_timeout_s = settings.frontend.answer_timeout_s
        # Half of the answer's time, so that what moves to another publisher can still be answered in time.
        self._reroute_after_s = settings.frontend.answer_timeout_s / 2
        self._partitions_default = settings.kafka.partitions
        self._settings_records_max = settings.frontend.queue_records_max
        self._settings_bytes_max = settings.frontend.queue_bytes_max
        self._records_max = self._settings_records_max
        self._bytes_max = self._settings_bytes_max
        self._partitions: dict[str, int] = {}
        self._records = 0
        self._bytes = 0
        self._metrics = metrics
        metrics.records.read = lambda: float(self._records)
        metrics.bytes.read = lambda: float(self._bytes)
        self._frames = metrics.frames.at()
        self._frame_records = metrics.frame_records.at()
        self._links = [
            Link(number, path, slot, self._answered, self._link_changed, self._resent)
            for number, path in enumerate(paths)
        ]
        #: publisher → the link that serves its partitions now
        self._route: list[Link] = list(self._links)
        self._seq = 0
        #: Answers of publishers so far.
        self.answers = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._reroutes: dict[int, asyncio.TimerHandle] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def records(self) -> int:
        """Records that wait for an answer."""
        return self._records

    async def start(self, wait_s: float = START_WAIT_S) -> None:
        """
        Connect to all publishers; return when each has said its first word, or after `wait_s`.

        Never fails: what is not there yet is tried again in the background, and `serving` says so.
        """
        self._loop = asyncio.get_running_loop()
        for link in self._links:
            link.start()
            self._watch(link)
        first_words = [asyncio.ensure_future(link.known.wait()) for link in self._links]
        _, late = await asyncio.wait(first_words, timeout=wait_s)
        for one in late:
            one.cancel()

    def partitions(self, topic: str) -> int:
        """How many partitions `topic` has, as the publishers say; the settings' count before they have."""
        return self._partitions.get(topic, self._partitions_default)

    def publish(
        self, topic: str, batches: list[PartitionBatch], records: int, size_bytes: int
    ) -> asyncio.Future[Durability]:
        """
        Send `records` records of about `size_bytes` bytes; the future is where the weakest of them is safe.

        Raises LogUnavailable at once when the queue is full. The future fails with LogUnavailable when a
        publisher could not make them durable, or did not say so within `frontend.answer_timeout_s`.
        """
        # An empty queue takes anything: what is over the bound by itself could otherwise never be sent.
        if self._records and (
            self._records + records > self._records_max or self._bytes + size_bytes > self._bytes_max
        ):
            self._metrics.full.at().n += 1
            raise LogUnavailable("the queue to the publishers is full")
        if self._unread():
            self._metrics.full.at().n += 1
            raise LogUnavailable("a publisher does not read what it was sent")
        loop = self._loop
        assert loop is not None, "start() comes first"
        pending = Pending(loop.create_future())
        deadline = loop.time() + self._answer_timeout_s
        if len(self._route) == 1:
            self._send(self._route[0], topic, batches, records, deadline, pending)
        else:
            parts: dict[int, list[PartitionBatch]] = {}
            for batch in batches:
                parts.setdefault(batch.partition % len(self._route), []).append(batch)
            for publisher, part in parts.items():
                self._send(
                    self._route[publisher],
                    topic,
                    part,
                    sum(len(batch.records) for batch in part),
                    deadline,
                    pending,
                )
        if self._sweeper is None:
            self._sweeper = loop.call_at(deadline, self._sweep)
        return pending.future

    @property
    def oldest_wait_s(self) -> float:
        """
        Seconds that the oldest record has waited for an answer; 0: none waits.

        Of the publisher that is ahead of the others: one that hangs must not shut out what the others take.
        """
        links = set(self._route)
        firsts = [next(iter(link.entries.values())).deadline for link in links if link.entries]
        if len(firsts) < len(links) or self._loop is None:
            return 0.0
        return max(0.0, self._loop.time() - max(firsts) + self._answer_timeout_s)

    @property
    def serving(self) -> tuple[bool, list[str]]:
        """Whether a well-formed event can get a 2xx now, and why not."""
        reasons = []
        now = self._loop.time() if self._loop is not None else 0.0
        for publisher, link in enumerate(self._route):
            # A restart takes a fraction of a second and events wait for it; that is no reason.
            if not link.up and (link.welcome is None or now - link.away_since > self._reroute_after_s):
                reasons.append(f"publisher {publisher} does not answer")
        if self._records >= self._records_max or self._bytes >= self._bytes_max:
            reasons.append("the queue to the publishers is full")
        elif self._unread():
            reasons.append("a publisher does not read what it was sent")
        return not reasons, reasons

    def _unread(self) -> bool:
        """
        Whether a publisher that hangs leaves too much in its connection.

        What was not answered in time counts no more, but its frame is still there.
        """
        bytes_max = self._bytes_max
        return any(link.held_bytes > bytes_max for link in self._links)

    async def drain(self, limit_s: float) -> None:
        """Wait until everything is answered, `limit_s` at most; then tell the publishers goodbye."""
        try:
            async with asyncio.timeout(limit_s):
                await self._empty.wait()
        except TimeoutError:
            pass
        for link in self._links:
            link.say_bye()

    async def stop(self) -> None:
        """Close; what is not answered fails with LogUnavailable."""
        for timer in self._reroutes.values():
            timer.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for link in self._links:
            await link.stop()
            for seq in list(link.entries):
                self._take(link, seq).pending.fail(LogUnavailable("the frontend is stopping"))

    # --- sending

    def _send(
        self,
        link: Link,
        topic: str,
        batches: list[PartitionBatch],
        records: int,
        deadline: float,
        pending: Pending,
    ) -> None:
        self._seq += 1
        seq = self._seq
        frame = pack(Publish(seq, topic, batches))
        if len(frame) > self._frame_bytes_max and records > 1:
            for half in _halves(batches):
                self._send(link, topic, half, sum(len(batch.records) for batch in half), deadline, pending)
            return
        pending.left += 1
        self._records += records
        self._bytes += len(frame)
        self._empty.clear()
        self._frames.n += 1
        self._frame_records.observe(records)
        link.send(seq, Entry(frame, records, deadline, pending))

    def _take(self, link: Link, seq: int) -> Entry:
        entry = link.entries.pop(seq)
        self._records -= entry.records
        self._bytes -= len(entry.frame)
        if not self._records:
            self._empty.set()
        return entry

    def _sweep(self) -> None:
        """Fail what is past its deadline; come again at the next one."""
        assert self._loop is not None
        now = self._loop.time()
        following: float | None = None
        for link in self._links:
            late = []
            for seq, entry in link.entries.items():
                if entry.deadline > now:
                    following = entry.deadline if following is None else min(following, entry.deadline)
                    break
                late.append(seq)
            for seq in late:
                self._take(link, seq).pending.fail(
                    LogUnavailable(f"no publisher answered within {self._answer_timeout_s:g} s")
                )
        self._sweeper = None if following is None else self._loop.call_at(following, self._sweep)

    # --- what the links tell

    def _answered(self, link: Link, message: Ack | Nack) -> None:
        self.answers += 1
        if message.seq not in link.entries:
            return  # its time was over, or it was answered by the publisher that took over
        pending = self._take(link, message.seq).pending
        if isinstance(message, Ack):
            pending.ack(message.durability)
        else:
            pending.fail(LogUnavailable(message.reason, message.retry_after_s))

    def _resent(self, frames: int) -> None:
        self._metrics.resent.at().n += frames

    def _link_changed(self, link: Link) -> None:
        if link.up and link.welcome is not None:
            self._partitions.update(link.welcome.partitions)
            known = [one.welcome for one in self._links if one.welcome is not None]
            self._records_max = min([self._settings_records_max, *(one.records_max for one in known)])
            self._bytes_max = min([self._settings_bytes_max, *(one.bytes_max for one in known)])
            timer = self._reroutes.pop(link.number, None)
            if timer is not None:
                timer.cancel()
            self._reroute()
        else:
            self._watch(link)

    def _watch(self, link: Link) -> None:
        if link.number not in self._reroutes and self._loop is not None:
            self._reroutes[link.number] = self._loop.call_later(
                self._reroute_after_s, self._given_up, link.number
            )

    def _given_up(self, number: int) -> None:
        del self._reroutes[number]
        self._reroute()

    def _reroute(self) -> None:
        """Every publisher's partitions go to its own link, or, when that is away for long, to one that is up."""
        living = [link for link in self._links if link.up]
        for number, link in enumerate(self._links):
            if link.up or number in self._reroutes or not living:
                self._route[number] = link
            else:
                stand_in = living[number % len(living)]
                self._route[number] = stand_in
                if link.entries:
                    stand_in.take_over(link)


def _halves(batches: list[PartitionBatch]) -> list[list[PartitionBatch]]:
    """The same records in two lists; a partition that is cut keeps its order over them."""
    if len(batches) > 1:
        middle = len(batches) // 2
        return [batches[:middle], batches[middle:]]
    (batch,) = batches
    middle = len(batch.records) // 2
    return [
        [PartitionBatch(batch.partition, batch.records[:middle])],
        [PartitionBatch(batch.partition, batch.records[middle:])],
    ]
