-- Stored events, each exactly once, and the profiles that ResultFly's events make (docs/processor.md).

-- A day each (UTC): the processor makes the partitions ahead and drops old ones whole.
CREATE TABLE events (
    received_at  timestamptz NOT NULL,
    occurred_at  timestamptz NOT NULL,
    id           text NOT NULL,
    tenant       text NOT NULL,
    contract     text NOT NULL,
    channel      text,
    source       text NOT NULL,
    type         text NOT NULL,
    name         text,
    message_id   text,
    user_id      text,
    anonymous_id text,
    -- whose it was when it was stored; profiles.merged_into leads to the one that is left
    profile_id   uuid,
    -- As it stands on the log. Bytes, because jsonb refuses \u0000 and large numbers, and json and text whatever the
    -- database's encoding lacks: an accepted event must not fail for what is in it. The columns above are cut and
    -- cleaned copies, for looking things up.
    envelope     bytea NOT NULL
) PARTITION BY RANGE (received_at);
CREATE INDEX events_tenant ON events (tenant, received_at);
CREATE INDEX events_profile ON events (profile_id, received_at) WHERE profile_id IS NOT NULL;

-- Which events are stored: a copy may come with another receipt time, so this does not hang on the partitions of
-- events. `key` is 128 bits of a hash of the event's id; `received_at` leads to the row. An id is forgotten after the
-- partition of its row, never before; those of event_ids_lasting (ResultFly) never are.
CREATE TABLE event_ids (
    key         uuid PRIMARY KEY,
    received_at timestamptz NOT NULL
) PARTITION BY HASH (key);
CREATE TABLE event_ids_lasting (
    key         uuid PRIMARY KEY,
    received_at timestamptz NOT NULL
) PARTITION BY HASH (key);
DO $$
BEGIN
    FOR n IN 0..7 LOOP
        EXECUTE format('CREATE TABLE event_ids_%s PARTITION OF event_ids '
                       'FOR VALUES WITH (MODULUS 8, REMAINDER %s)', n, n);
        EXECUTE format('CREATE TABLE event_ids_lasting_%s PARTITION OF event_ids_lasting '
                       'FOR VALUES WITH (MODULUS 8, REMAINDER %s)', n, n);
    END LOOP;
END $$;
-- What is forgotten is found by its age.
CREATE INDEX event_ids_received_at ON event_ids (received_at);

-- How far a reader of a log that keeps no positions itself has come (the local log). It moves in the transaction that
-- stores what was read. `mark` tells a file from another one that has its name.
CREATE TABLE log_positions (
    reader     text NOT NULL,
    log        text NOT NULL,
    position   bigint NOT NULL,
    mark       text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (reader, log)
);

-- Profiles. `best` is the precedence of the best identifier: 0 EXTERNAL, 1 EMAIL, 2 PHONE, 3 DEVICE_KEY.
CREATE TABLE profiles (
    id          uuid PRIMARY KEY,
    tenant      text NOT NULL,
    best        smallint NOT NULL CHECK (best BETWEEN 0 AND 3),
    -- the profile that is left, at the end of all merges; null: this one is
    merged_into uuid REFERENCES profiles (id),
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX profiles_merged ON profiles (merged_into) WHERE merged_into IS NOT NULL;

-- An identifier belongs to one profile. `digest` is 128 bits of a hash of the value, which may be longer than an index
-- takes: unique on it is unique on (tenant, type, value).
CREATE TABLE profile_identifiers (
    tenant     text NOT NULL,
    type       text NOT NULL CHECK (type IN ('EXTERNAL', 'EMAIL', 'PHONE', 'DEVICE_KEY')),
    digest     uuid NOT NULL,
    value      text NOT NULL,
    profile_id uuid NOT NULL REFERENCES profiles (id),
    event_id   text NOT NULL,
    linked_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, type, digest)
);
CREATE INDEX profile_identifiers_profile ON profile_identifiers (profile_id);

-- A profile is merged away once, which its key sees to.
CREATE TABLE profile_merges (
    from_id   uuid PRIMARY KEY REFERENCES profiles (id),
    into_id   uuid NOT NULL REFERENCES profiles (id),
    tenant    text NOT NULL,
    cause     text NOT NULL,
    event_id  text NOT NULL,
    merged_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX profile_merges_into ON profile_merges (into_id);

-- An identifier that events of one profile carried and that stayed with another, because each has an EXTERNAL of its
-- own. `kept_by` is null where the identifier belongs to nobody (a second EXTERNAL in one event).
CREATE TABLE profile_conflicts (
    profile_id     uuid NOT NULL REFERENCES profiles (id),
    type           text NOT NULL,
    digest         uuid NOT NULL,
    value          text NOT NULL,
    kept_by        uuid REFERENCES profiles (id),
    tenant         text NOT NULL,
    events         bigint NOT NULL DEFAULT 1,
    first_event_id text NOT NULL,
    last_event_id  text NOT NULL,
    first_at       timestamptz NOT NULL DEFAULT now(),
    last_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (profile_id, type, digest)
);
CREATE INDEX profile_conflicts_tenant ON profile_conflicts (tenant, last_at);

-- For people with SQL: the envelope as JSON, and the profile that is left.
CREATE VIEW events_resolved AS
SELECT e.received_at, e.occurred_at, e.id, e.tenant, e.contract, e.channel, e.source, e.type, e.name, e.message_id,
       e.user_id, e.anonymous_id, coalesce(p.merged_into, e.profile_id) AS profile_id,
       convert_from(e.envelope, 'UTF8')::json AS envelope
FROM events e LEFT JOIN profiles p ON p.id = e.profile_id;
