"""
The producer: batches to the leaders of their partitions, and their answers back.

    push(lane) ──▶ lanes that wait for their broker ──▶ one request per broker ──▶ acknowledged(appends)

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
from daemon.adapters.kafka.lanes import Lane, Whole
from daemon.adapters.kafka.produce import Answer, Produce

log = logging.getLogger(__name__)

#: Bytes of batches after which a request takes no more lanes; the others have the next one. A broker takes 100 MiB
#: by default (socket.request.max.bytes); the worst is this, and one batch more.
REQUEST_BYTES_MAX = 8 * 1024 * 1024

#: Codes that say that the broker has the batch; of a duplicate it does as well: our first answer was lost.
_TAKEN = (NoError.errno, DuplicateSequenceNumber.errno)

#: Between tries, seconds: as long as other clients wait (retry.backoff.ms).
RETRY_S = 0.1

#: A look for leaders that may hang is not waited for longer than this before the next try, seconds.
LOOK_S = 1.0

#: Of no meaning without transactions, yet part of the question for a producer's id.
TRANSACTION_MS = 60_000


class Producer:
    """
    Sends lanes' records over `client`, which is started.

    `acknowledged` hears of what each answer says yes to, `refused` of an error that no retry ends: the sequence
    numbers of its lane are lost then, so the broker would refuse what follows, and this producer is of no more use.
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
    ) -> None:
        self.client = client
        self._loop = asyncio.get_running_loop()
        #: set while nothing waits and nothing is on its way
        self.idle = asyncio.Event()
        self.idle.set()
        self._compression = compression
        self._record_bytes_max = record_bytes_max
        self._timeout_ms = int(timeout_s * 1000)
        self._acknowledged = acknowledged
        self._refused = refused
        self._too_large = too_large
        self._id, self._epoch = -1, -1
        self._kinds = Kinds()
        self._busy: set[Lane] = set()
        #: broker → lanes whose turn is next
        self._ready: dict[int, deque[Lane]] = {}
        #: brokers with a request under way
        self._serving: set[int] = set()
        #: lanes whose partition has no leader that we know of
        self._homeless: list[Lane] = []
        self._looking = False
        self._tasks: set[asyncio.Task[None]] = set()
        client.cluster.add_listener(self._leaders_changed)

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

    def push(self, lane: Lane) -> None:
        """`lane` has more records: they go out with its broker's next request, or with the one after."""
        if not lane.busy:
            lane.busy = True
            if not self._busy:
                self.idle.clear()
            self._busy.add(lane)
            self._line_up(lane)

    def _line_up(self, lane: Lane) -> None:
        """`lane` has records and nothing that it waits for but its turn."""
        leader = lane.leader
        if leader < 0:
            leader = lane.leader = self._leader(lane)
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

    def _leaders_changed(self, _: object) -> None:
        """New metadata: what waits for a broker that leads its partition no more waits for the new one."""
        for lane in self._busy:
            lane.leader = -1
        for broker, lanes in list(self._ready.items()):
            for _ in range(len(lanes)):
                lane = lanes.popleft()
                lane.leader = self._leader(lane)
                if lane.leader == broker:
                    lanes.append(lane)
                else:
                    self._line_up(lane)

    def _rest(self, lane: Lane) -> None:
        """`lane` has nothing left."""
        # It is told of new metadata no more.
        lane.busy, lane.leader = False, -1
        self._busy.discard(lane)
        if not self._busy:
            self.idle.set()

    def _run(self, work: Any) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- one broker

    async def _serve(self, broker: int, lanes: deque[Lane]) -> None:
        """Send what is ready for `broker`, request by request, until nothing is."""
        try:
            while lanes:
                loaded = self._load(lanes)
                if loaded:
                    await self._exchange(broker, loaded)
        except Exception as error:
            log.exception("sending to broker %d failed in an unforeseen way", broker)
            self._refused((), error)
        finally:
            # Without a wait since `lanes` was found empty: what gets ready from now on begins anew.
            self._serving.discard(broker)

    def _load(self, lanes: deque[Lane]) -> dict[tuple[str, int], Lane]:
        """The lanes of the next request, each with its batch."""
        loaded: dict[tuple[str, int], Lane] = {}
        size = 0
        while lanes and size < REQUEST_BYTES_MAX:
            lane = lanes.popleft()
            pieces = lane.pieces or self._fill(lane)
            if pieces is not None:
                loaded[lane.place] = lane
                size += len(pieces[1])
        return loaded

    def _fill(self, lane: Lane) -> tuple[bytes, bytes] | None:
        """Make the lane's next batch; None when there is nothing left to send."""
        while True:
            batch = Batch(self._kinds)
            lane.taken, too_large = lane.fill(batch, self._record_bytes_max)
            if batch.count:
                lane.pieces = batch.seal(self._compression, self._id, self._epoch, lane.sequence)
                lane.sequence = sequence_after(lane.sequence, batch.count)
                return lane.pieces
            if too_large is None:
                self._rest(lane)
                return None
            self._too_large(lane, too_large)

    async def _exchange(self, broker: int, loaded: dict[tuple[str, int], Lane]) -> None:
        """One request and its answer."""
        topics: dict[str, list[tuple[int, Sequence[bytes]]]] = {}
        for (topic, partition), lane in loaded.items():
            assert lane.pieces is not None
            batches = topics.get(topic)
            if batches is None:
                batches = topics[topic] = []
            batches.append((partition, lane.pieces))
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
        acknowledged: list[Whole] = []
        for topic, partition, code in answers:
            answered = loaded.pop((topic, partition), None)
            if answered is None:
                continue
            if code in _TAKEN:
                acknowledged += answered.taken
                self._empty(answered)
            else:
                self._failed(answered, for_code(code))
        self._acknowledged(acknowledged)
        if loaded:
            log.warning("an answer of broker %d does not tell of every partition", broker)
            self._run(self._again(list(loaded.values()), stale=True))

    def _empty(self, lane: Lane) -> None:
        """The lane's batch is on its way no more."""
        lane.pieces, lane.taken = None, []
        if lane.waiting:
            self._line_up(lane)
        else:
            self._rest(lane)

    def _failed(self, lane: Lane, error: type[KafkaError]) -> None:
        if error.retriable:
            log.warning("%s/%d is sent again: %s", *lane.place, error.__name__)
            self._run(self._again([lane], stale=getattr(error, "invalid_metadata", False)))
        else:
            self._refuse(lane, error())

    def _refuse(self, lane: Lane, error: BaseException) -> None:
        self._refused(lane.taken, error)
        self._empty(lane)

    # --- what does not go at once

    async def _again(self, lanes: Sequence[Lane], *, stale: bool) -> None:
        """Send these lanes' batches again after a while; `stale`: other brokers may lead their partitions by now."""
        await asyncio.sleep(RETRY_S)
        if stale:
            await self._look()
        for lane in lanes:
            self._line_up(lane)

    async def _look_for_leaders(self) -> None:
        """Until every lane has a leader."""
        try:
            while self._homeless:
                await self._look()
                lanes, self._homeless = self._homeless, []
                for lane in lanes:
                    self._line_up(lane)
                if self._homeless:
                    await asyncio.sleep(RETRY_S)
        finally:
            self._looking = False

    async def _look(self) -> None:
        """Ask for metadata, which may fail: then what is known stays."""
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self.client.force_metadata_update()
