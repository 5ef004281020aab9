"""Integrations with other frameworks. Each needs the package of its framework; the rest of qw does not import them."""
