"""The API reference: the OpenAPI document as a file, and as a page for people."""
