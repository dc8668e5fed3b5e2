"""What `headgate webhooks` is made of besides its commands: reading mappings, sending samples."""
