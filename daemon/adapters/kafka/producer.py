"""
The producer: batches to the leaders of their partitions, and their answers back.

    ready(lane) ──▶ lanes that wait for their broker ──▶ one request per broker ──▶ acknowledged(flights)

A broker has one request under way. What gets ready meanwhile, over all of its partitions, is the next one: so
requests grow with the load by themselves, and nobody lingers. It is idempotent, as Kafka's own producers are: a
batch has the sequence number of its first record, and is sent again as it is until there is an answer, so the
broker drops what it gets twice. It never gives up; whoever needs a deadline has one of his own.

The client is aiokafka's: connections, TLS, SASL, metadata. Its own producer spends 220 µs on a request, ten times
what is spent here, most of it on tasks, futures and objects per batch (docs/performance.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaClient
from aiokafka.errors import DuplicateSequenceNumber, KafkaError, NoError, for_code
from aiokafka.protocol.transaction import InitProducerIdRequest

from daemon.adapters.kafka.batches import Batch, Kinds, sequence_after
from daemon.adapters.kafka.lanes import Flight, Lane, Whole
from daemon.adapters.kafka.produce import Answer, Produce

log = logging.getLogger(__name__)

#: Bytes of batches after which a request takes no more lanes; the others have the next one. A broker takes 100 MiB
#: by default (socket.request.max.bytes); the worst is this, and one batch more.
REQUEST_BYTES_MAX = 8 * 1024 * 1024

#: Between tries, seconds: as long as other clients wait (retry.backoff.ms).
RETRY_S = 0.1

#: A look for leaders that may hang is not waited for longer than this before the next try, seconds.
LOOK_S = 1.0

#: Of no meaning without transactions, yet part of the question for a producer's id.
TRANSACTION_MS = 60_000


class Producer:
    """
    Sends lanes' records over `client`, which is started.

    `acknowledged` hears of each answer that says yes, `refused` of an error that no retry ends: the sequence
    numbers of its lane are lost then, so the broker would refuse what follows, and this producer is of no more use.
    `idle` hears of a lane that has nothing left.
    """

    def __init__(
        self,
        client: AIOKafkaClient,
        *,
        compression: str,
        record_bytes_max: int,
        timeout_s: float,
        acknowledged: Callable[[Sequence[Whole]], None],
        refused: Callable[[Sequence[Whole], BaseException], None],
        too_large: Callable[[Lane, Whole], None],
        idle: Callable[[Lane], None],
    ) -> None:
        self.client = client
        self._compression = compression
        self._record_bytes_max = record_bytes_max
        self._timeout_ms = int(timeout_s * 1000)
        self._acknowledged = acknowledged
        self._refused = refused
        self._too_large = too_large
        self._idle = idle
        self._id, self._epoch = -1, -1
        self._kinds = Kinds()
        #: broker → lanes whose turn is next
        self._ready: dict[int, deque[Lane]] = {}
        #: brokers with a request under way
        self._serving: set[int] = set()
        #: lanes whose partition has no leader that we know of
        self._homeless: list[Lane] = []
        self._looking = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Get a producer's id. Raises KafkaError for what a retry does not change; tries again for ever else."""
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=TRANSACTION_MS)
        while True:
            node = self.client.get_random_node()
            try:
                if node is not None:
                    answer = await self.client.send(node, request)
                    error = for_code(answer.error_code)
                    if error is NoError:
                        self._id, self._epoch = answer.producer_id, answer.producer_epoch
                        return
                    raise error
            except KafkaError as failure:
                if not failure.retriable:
                    raise
                log.debug("no producer's id yet: %r", failure)
            await self.client.force_metadata_update()
            await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """End what goes on; nothing is sent any more, what was sent may still arrive."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ready(self, lane: Lane) -> None:
        """`lane` has records and nothing on its way: it goes out with its broker's next request."""
        leader = self._leader(lane)
        if leader < 0:
            self._homeless.append(lane)
            if not self._looking:
                self._looking = True
                self._run(self._look_for_leaders())
            return
        lanes = self._ready.get(leader)
        if lanes is None:
            lanes = self._ready[leader] = deque()
        lanes.append(lane)
        if leader not in self._serving:
            self._serving.add(leader)
            self._run(self._serve(leader, lanes))

    def _leader(self, lane: Lane) -> int:
        """The broker that leads the lane's partition; below 0: none is known."""
        leader: int | None = self.client.cluster.leader_for_partition(lane.place)
        return -1 if leader is None else leader

    def _run(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- one broker

    async def _serve(self, broker: int, lanes: deque[Lane]) -> None:
        """Send what is ready for `broker`, request by request, until nothing is."""
        try:
            while lanes:
                loaded = self._load(broker, lanes)
                if loaded:
                    await self._exchange(broker, loaded)
        except Exception as error:
            log.exception("sending to broker %d failed in an unforeseen way", broker)
            self._refused((), error)
        finally:
            # Without a wait since `lanes` was found empty: what gets ready from now on begins anew.
            self._serving.discard(broker)

    def _load(self, broker: int, lanes: deque[Lane]) -> dict[tuple[str, int], Lane]:
        """The lanes of the next request, each with its flight."""
        loaded: dict[tuple[str, int], Lane] = {}
        size = 0
        while lanes and size < REQUEST_BYTES_MAX:
            lane = lanes.popleft()
            if self._leader(lane) != broker:
                self.ready(lane)
            elif lane.flight is not None or self._fill(lane):
                assert lane.flight is not None
                loaded[lane.place] = lane
                size += lane.flight.size
        return loaded

    def _fill(self, lane: Lane) -> bool:
        """Make the lane's next batch; False when there is nothing left to send."""
        while True:
            batch = Batch(self._kinds)
            taken, too_large = lane.fill(batch, self._record_bytes_max)
            if too_large is not None:
                self._too_large(lane, too_large)
            elif not taken:
                self._idle(lane)
                return False
            else:
                sealed = batch.seal(self._compression, self._id, self._epoch, lane.sequence)
                lane.sequence = sequence_after(lane.sequence, batch.count)
                lane.flight = Flight(sealed, taken)
                return True

    async def _exchange(self, broker: int, loaded: dict[tuple[str, int], Lane]) -> None:
        """One request and its answer."""
        topics: dict[str, list[tuple[int, Sequence[bytes]]]] = {}
        for (topic, partition), lane in loaded.items():
            assert lane.flight is not None
            topics.setdefault(topic, []).append((partition, lane.flight.pieces))
        try:
            answers: Sequence[Answer] = await self.client.send(broker, Produce(self._timeout_ms, topics))
        except (KafkaError, OSError) as error:
            log.warning("a request to broker %d was not answered: %r", broker, error)
            if isinstance(error, KafkaError) and not error.retriable:
                for lane in loaded.values():
                    self._refuse(lane, error)
                return
            self._run(self._again(list(loaded.values()), stale=True))
            # The others of this broker would fare no better now.
            await asyncio.sleep(RETRY_S)
            return
        for topic, partition, code in answers:
            answered = loaded.pop((topic, partition), None)
            if answered is not None:
                self._answered(answered, code)
        if loaded:
            log.warning("an answer of broker %d does not tell of every partition", broker)
            self._run(self._again(list(loaded.values()), stale=True))

    def _answered(self, lane: Lane, code: int) -> None:
        error = for_code(code) if code else NoError
        # A duplicate is a batch whose first answer was lost: the broker has it.
        if error is NoError or error is DuplicateSequenceNumber:
            assert lane.flight is not None
            taken, lane.flight = lane.flight.taken, None
            self._acknowledged(taken)
            if lane.waiting:
                self.ready(lane)
            else:
                self._idle(lane)
        elif error.retriable:
            log.warning("%s/%d is sent again: %s", *lane.place, error.__name__)
            self._run(self._again([lane], stale=getattr(error, "invalid_metadata", False)))
        else:
            self._refuse(lane, error())

    def _refuse(self, lane: Lane, error: BaseException) -> None:
        assert lane.flight is not None
        taken, lane.flight = lane.flight.taken, None
        self._refused(taken, error)
        if lane.waiting:
            self.ready(lane)
        else:
            self._idle(lane)

    # --- what does not go at once

    async def _again(self, lanes: Sequence[Lane], *, stale: bool) -> None:
        """Send these flights again after a while; `stale`: other brokers may lead their partitions by now."""
        await asyncio.sleep(RETRY_S)
        if stale:
            await self._look()
        for lane in lanes:
            self.ready(lane)

    async def _look_for_leaders(self) -> None:
        """Until every lane has a leader."""
        try:
            while self._homeless:
                await self._look()
                lanes, self._homeless = self._homeless, []
                for lane in lanes:
                    self.ready(lane)
                if self._homeless:
                    await asyncio.sleep(RETRY_S)
        finally:
            self._looking = False

    async def _look(self) -> None:
        """Ask for metadata, which may fail: then what is known stays."""
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self.client.force_metadata_update()
