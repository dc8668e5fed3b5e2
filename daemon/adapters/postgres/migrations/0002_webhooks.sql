-- Webhooks of other services: how they sign, and what becomes of what they send.

CREATE TABLE webhooks (
    id              text PRIMARY KEY,
    source_id       text NOT NULL REFERENCES sources (id),
    name            text NOT NULL,
    kind            text NOT NULL,
    -- as the operator wrote it (daemon/events/webhooks/config.py)
    config          jsonb NOT NULL,
    -- sealed like a source's secret, bound to the webhook's id; null where the sender does not sign
    secret_sealed   bytea,
    -- the secret before the last rotation, good until then
    previous_sealed bytea,
    previous_until  timestamptz,
    enabled         boolean NOT NULL DEFAULT true,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((previous_sealed IS NULL) = (previous_until IS NULL))
);
CREATE INDEX webhooks_source ON webhooks (source_id);

-- `changes.source_id` names whatever row changed: frontends forget what they keep under that id.
CREATE FUNCTION webhook_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change(coalesce(new.id, old.id), '{}');
    RETURN NULL;
END $$;

CREATE TRIGGER webhook_changed AFTER INSERT OR UPDATE OR DELETE ON webhooks
    FOR EACH ROW EXECUTE FUNCTION webhook_changed();
CREATE TRIGGER everything_changed AFTER TRUNCATE ON webhooks
    FOR EACH STATEMENT EXECUTE FUNCTION everything_changed();
