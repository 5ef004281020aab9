"""Rules without I/O, clock or randomness: the current time and random numbers are passed in as arguments."""
