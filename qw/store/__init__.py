"""The only place that speaks to PostgreSQL: translates rows to values and back, and psycopg's errors to qw's."""
