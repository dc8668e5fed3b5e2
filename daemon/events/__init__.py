"""The pure core: contracts, envelope, identity. No I/O, no clock, no state."""
