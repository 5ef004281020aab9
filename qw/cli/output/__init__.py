"""What commands print: records for programs, tables and pages for people."""
