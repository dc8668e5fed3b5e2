"""Looking at the servers that settings name, as `headgate check` does: each probe gives findings, and raises nothing."""
