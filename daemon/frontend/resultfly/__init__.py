"""ResultFly's endpoints: events, batches of them, and the contracts that they have to satisfy."""
