"""The figures that a chaos run does not show, each as a command: `python -m tests.chaos.proofs rolls|outage|crowd`."""
