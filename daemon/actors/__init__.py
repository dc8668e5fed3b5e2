"""How processes talk: messages, frames, queues and the control channel."""
