"""The database layer: the only code that accesses PostgreSQL. Maps rows to values, and psycopg errors to qw errors."""
