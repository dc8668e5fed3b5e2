"""What the commands of `headgate spool` do."""
