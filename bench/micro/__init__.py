"""Micro-benchmarks: what the single steps of an event's way cost, so that a regression has an address."""
