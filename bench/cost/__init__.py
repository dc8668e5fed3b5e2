"""`make bench-cost`: what an event costs, beside a bare server; see `bench.cost.__main__`."""
