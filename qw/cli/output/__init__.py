"""Output of commands: records for programs, tables and pages for people."""
