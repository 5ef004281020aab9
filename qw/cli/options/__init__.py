"""Options and arguments, and the conversion of typed text to values."""
