"""The only modules that import a store client (Redis, PostgreSQL, Kafka, SQLite)."""
