"""Measures qw on a real PostgreSQL: ``python -m benchmarks`` (or ``make bench``)."""
