"""Redis (or Valkey): the wire of the hot path, claims and visitors, leased rate limits."""
