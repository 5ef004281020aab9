"""``python -m qw``."""

from qw.cli import main

main()
