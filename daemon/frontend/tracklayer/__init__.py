"""TrackLayer's endpoints: one module per way in, and what they share."""
