"""What the ingest port serves, as an OpenAPI 3.1 document made from the types and tables that serve it."""
