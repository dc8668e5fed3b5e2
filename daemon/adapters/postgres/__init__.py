"""PostgreSQL: the connections, the schema, and the repository of sources and keys."""
