"""
Contracts of ResultFly's event types: what an event of a type may and must carry (contracts 0.3.28).

definition  a contract, read out of JSON or TOML
validator   a contract, compiled: does an event satisfy it, and if not, what is wrong with it
schema      a contract as JSON Schema
difference  what changed between two contracts, and whether that breaks senders
"""
