"""Datafly Signal's endpoints: one module per input method, and what they share."""
