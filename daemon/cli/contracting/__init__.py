"""The rooms of `headgate contracts`."""
