"""
What processes say to each other.

Two conversations, each a closed union of frozen, array-like, tagged structs in msgpack:

* the queue: frontend → publisher `Hello Publish Bye`, publisher → frontend `Welcome Ack Nack`;
* the control channel: child → supervisor `Ready Beat Drained Metrics Failed`,
  supervisor → child `Setup Drain Stop Scrape SetLog`.
"""

from __future__ import annotations

from msgspec import Struct

from daemon.ports import Durability, PartitionBatch

# --- the queue between a frontend and a publisher ----------------------------------------------------


class Hello(Struct, frozen=True, array_like=True, tag=1):
    """First word of a frontend: who it is, for logs."""

    slot: int
    pid: int


class Publish(Struct, frozen=True, array_like=True, tag=2):
    """
    The records of one tick, grouped by partition.

    `seq` names the message in its answer. It grows per frontend, not per connection, so that a frame
    can be sent again as it is, to a restarted publisher or to another one.
    """

    seq: int
    topic: str
    batches: list[PartitionBatch]


class Bye(Struct, frozen=True, array_like=True, tag=3):
    """The frontend sends nothing more on this connection, but still waits for what is open."""


class Welcome(Struct, frozen=True, array_like=True, tag=11):
    """
    How much may be in work on this connection, and the partitions per topic.

    The first word of a publisher; said again when a count of partitions has changed.
    """

    records_max: int
    bytes_max: int
    partitions: dict[str, int]


class Ack(Struct, frozen=True, array_like=True, tag=12):
    """Every record of that Publish is durable; `durability` is the weakest of them."""

    seq: int
    durability: Durability


class Nack(Struct, frozen=True, array_like=True, tag=13):
    """That Publish could not be made durable; `retry_after_s` is when to try again."""

    seq: int
    reason: str
    retry_after_s: float


ToPublisher = Hello | Publish | Bye
ToFrontend = Welcome | Ack | Nack

# --- the control channel between the supervisor and a child -----------------------------------------


class Setup(Struct, frozen=True, array_like=True, tag=21):
    """
    First word to a child: all it needs to know.

    `settings` is the validated Settings as JSON (with secrets, which is why it does not go through
    the environment). `listen_fd` is the inherited listening socket of the slot (-1: none).
    `queue_paths` are the publishers' Unix sockets, by slot. `counts` is role → number of slots.
    """

    role: str
    slot: int
    settings: bytes
    listen_fd: int
    queue_paths: list[str]
    counts: dict[str, int]


class Drain(Struct, frozen=True, array_like=True, tag=22):
    """Take nothing new, finish what was accepted within `limit_s`, then say Drained and exit 0."""

    limit_s: float


class Stop(Struct, frozen=True, array_like=True, tag=23):
    """Exit now."""


class Scrape(Struct, frozen=True, array_like=True, tag=24):
    """Send Metrics now, answering `number`."""

    number: int


class SetLog(Struct, frozen=True, array_like=True, tag=25):
    """Log from `level` on."""

    level: str


class Ready(Struct, frozen=True, array_like=True, tag=31):
    """The child does its work from now on."""

    note: str = ""


class Beat(Struct, frozen=True, array_like=True, tag=32):
    """
    Once a second, from the loop that does the work.

    `queue` is the depth of the child's queue in events; `serving` is false while a well-formed event
    could not get a 2xx, with `reasons` why.
    """

    queue: int
    serving: bool
    reasons: list[str]


class Drained(Struct, frozen=True, array_like=True, tag=33):
    """All that was accepted is finished; the exit follows."""


class Sample(Struct, frozen=True, array_like=True, gc=False):
    """One line of the exposition: sample name, label values in the family's order, value."""

    name: str
    labels: dict[str, str]
    value: float


class Family(Struct, frozen=True, array_like=True, gc=False):
    """One metric with its samples, as prometheus_client collects it."""

    name: str
    kind: str
    help: str
    samples: list[Sample]


class Metrics(Struct, frozen=True, array_like=True, tag=34):
    """Everything the child counts, taken at one moment. `number` is the Scrape it answers, or 0."""

    number: int
    families: list[Family]


class Failed(Struct, frozen=True, array_like=True, tag=35):
    """The child can't go on; it exits with `exit_code` (78: bad settings, not to be retried)."""

    reason: str
    exit_code: int


ToChild = Setup | Drain | Stop | Scrape | SetLog
ToSupervisor = Ready | Beat | Drained | Metrics | Failed
