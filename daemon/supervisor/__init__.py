"""The parent process: sockets, slots, signals, health. Never on the data path."""
