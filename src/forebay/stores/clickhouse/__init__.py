"""The ClickHouse store: batches wait in a local spool until the server has acknowledged them."""
