"""What `headgate demo` is made of: its page, the small server that serves it, and what follows the log for it."""
