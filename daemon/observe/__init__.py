"""Logs and metrics: what every process says about itself."""
