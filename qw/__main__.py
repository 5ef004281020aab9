"""``python -m qw``."""

from qw.cli import main

if __name__ == "__main__":
    main()
