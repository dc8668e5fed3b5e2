-- Tenants, sources and keys; what changed of them, in order.

CREATE TABLE tenants (
    name       text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sources (
    id            text PRIMARY KEY,
    tenant        text NOT NULL REFERENCES tenants (name),
    name          text NOT NULL,
    enabled       boolean NOT NULL DEFAULT true,
    origins       text[] NOT NULL DEFAULT '{}',
    rate          double precision CHECK (rate > 0),
    burst         bigint CHECK (burst > 0),
    cookie_domain text,
    -- AES-256-GCM of the source's secret key, bound to the source's id (daemon/adapters/sealing.py):
    -- an HMAC key has to be known in clear to check a signature, so its SHA-256 alone would not do.
    secret_sealed bytea,
    version       bigint NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sources_tenant ON sources (tenant, name);

-- Every kind of credential; what a kind does not need stays null.
CREATE TABLE keys (
    id          text PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('pipeline', 'secret', 'cdp', 'merchant')),
    prefix      text NOT NULL,
    sha256      bytea NOT NULL UNIQUE CHECK (octet_length(sha256) = 32),
    tenant      text NOT NULL REFERENCES tenants (name),
    source_id   text REFERENCES sources (id),
    merchant_id uuid,
    scopes      text[] NOT NULL DEFAULT '{}',
    rate        double precision CHECK (rate > 0),
    burst       bigint CHECK (burst > 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz,
    CHECK (kind NOT IN ('pipeline', 'secret') OR source_id IS NOT NULL),
    CHECK (kind <> 'merchant' OR merchant_id IS NOT NULL)
);
CREATE INDEX keys_source ON keys (source_id);
CREATE INDEX keys_prefix ON keys (prefix text_pattern_ops);

-- The number of the last change. Its row lock is held until the changing transaction ends, so that
-- numbers become visible in their order and without gaps: who has read n has missed nothing below n.
CREATE TABLE catalog_state (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    seq     bigint NOT NULL
);
INSERT INTO catalog_state (seq) VALUES (0);

-- What changed: the keys (by SHA-256) whose meaning is another one now. Frontends read what is new
-- here twice a second, and Redis tells them at once. Triggers write it, so a change made by hand in
-- SQL counts like any other.
CREATE TABLE changes (
    seq       bigint PRIMARY KEY,
    source_id text,
    digests   bytea[] NOT NULL,
    at        timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION note_change(source text, keys_changed bytea[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    UPDATE catalog_state SET seq = seq + 1 RETURNING seq INTO number;
    INSERT INTO changes (seq, source_id, digests) VALUES (number, source, keys_changed);
    -- A frontend that is further behind than this forgets everything it knows.
    DELETE FROM changes WHERE seq <= number - 10000;
END $$;

CREATE FUNCTION source_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change(
        coalesce(new.id, old.id),
        (SELECT coalesce(array_agg(sha256), '{}') FROM keys WHERE source_id = coalesce(new.id, old.id))
    );
    RETURN NULL;
END $$;

CREATE FUNCTION key_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF old.sha256 IS NOT NULL AND new.sha256 IS DISTINCT FROM old.sha256 THEN
        PERFORM note_change(old.source_id, ARRAY[old.sha256]);
    END IF;
    IF new.sha256 IS NOT NULL THEN
        PERFORM note_change(new.source_id, ARRAY[new.sha256]);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION everything_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A gap in the numbers: every reader starts anew.
    UPDATE catalog_state SET seq = seq + 20000;
    DELETE FROM changes;
    RETURN NULL;
END $$;

CREATE TRIGGER source_changed AFTER INSERT OR UPDATE OR DELETE ON sources
    FOR EACH ROW EXECUTE FUNCTION source_changed();
CREATE TRIGGER key_changed AFTER INSERT OR UPDATE OR DELETE ON keys
    FOR EACH ROW EXECUTE FUNCTION key_changed();
CREATE TRIGGER everything_changed AFTER TRUNCATE ON sources
    FOR EACH STATEMENT EXECUTE FUNCTION everything_changed();
CREATE TRIGGER everything_changed AFTER TRUNCATE ON keys
    FOR EACH STATEMENT EXECUTE FUNCTION everything_changed();
