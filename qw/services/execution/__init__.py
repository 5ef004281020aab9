"""Claims tasks, runs their handlers and stores how each attempt ended."""
