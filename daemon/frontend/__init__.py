"""The HTTP front: request in, reply out, one tick in between."""
