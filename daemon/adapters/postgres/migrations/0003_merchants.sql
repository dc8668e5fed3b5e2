-- TrackLayer's merchants: whom browser events name in their body, and whose keys servers use.

CREATE TABLE merchants (
    id         uuid PRIMARY KEY,
    tenant     text NOT NULL REFERENCES tenants (name),
    name       text NOT NULL,
    enabled    boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX merchants_tenant ON merchants (tenant, name);

ALTER TABLE keys ADD FOREIGN KEY (merchant_id) REFERENCES merchants (id);
CREATE INDEX keys_merchant ON keys (merchant_id);

-- A merchant that is disabled takes its keys along: frontends forget both.
CREATE FUNCTION merchant_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change(
        coalesce(new.id, old.id)::text,
        (SELECT coalesce(array_agg(sha256), '{}') FROM keys WHERE merchant_id = coalesce(new.id, old.id))
    );
    RETURN NULL;
END $$;

CREATE TRIGGER merchant_changed AFTER INSERT OR UPDATE OR DELETE ON merchants
    FOR EACH ROW EXECUTE FUNCTION merchant_changed();
CREATE TRIGGER everything_changed AFTER TRUNCATE ON merchants
    FOR EACH STATEMENT EXECUTE FUNCTION everything_changed();
