"""
The proof that nothing acknowledged is lost: seeded faults under load, and a ledger that is reconciled with the log.

`make chaos` runs it; docs/durability.md says how to read what it writes. One file per part: `schedule` (what is done
when), `inputs` (every way into the gateway), `callers` (who send), `ledger` (what they were told), `faults` (how each
is done), `stage` (the instance and its servers), `reconcile` (what is on the log), `report`.
"""
