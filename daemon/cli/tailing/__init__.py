"""What `headgate tail` is made of: which events, how they are shown, and the loop between."""
