"""qw in other frameworks. Each needs the package it is for, and nothing else of qw imports this."""
