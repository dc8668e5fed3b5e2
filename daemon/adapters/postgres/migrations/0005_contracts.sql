-- Contracts of ResultFly's event types, with all their versions (contracts 0.3.28).

CREATE TABLE contracts (
    tenant     text NOT NULL REFERENCES tenants (name),
    event_type text NOT NULL CHECK (event_type <> ''),
    version    bigint NOT NULL CHECK (version > 0),
    -- as daemon/events/contract/definition.py writes it; json and not jsonb, which refuses \u0000 in a property's name
    contract   json NOT NULL,
    created_at timestamptz NOT NULL,
    -- when the next version came, or the contract was deleted; null: in force
    ended_at   timestamptz,
    PRIMARY KEY (tenant, event_type, version)
);
CREATE UNIQUE INDEX contracts_in_force ON contracts (tenant, event_type) WHERE ended_at IS NULL;

-- A frontend keeps the contracts of a tenant together, under a name that no other row has: a tenant's has no slash.
-- One note for each statement: a file of contracts is applied by a few of them.
CREATE FUNCTION contracts_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change('contracts/' || tenant, '{}') FROM (SELECT DISTINCT tenant FROM changed) AS tenants;
    RETURN NULL;
END $$;

CREATE TRIGGER contracts_inserted AFTER INSERT ON contracts
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION contracts_changed();
CREATE TRIGGER contracts_updated AFTER UPDATE ON contracts
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION contracts_changed();
CREATE TRIGGER contracts_deleted AFTER DELETE ON contracts
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION contracts_changed();
CREATE TRIGGER everything_changed AFTER TRUNCATE ON contracts
    FOR EACH STATEMENT EXECUTE FUNCTION everything_changed();
