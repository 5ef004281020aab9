"""None: the tables are qw's own. Django sends `post_migrate` only to applications that have this module."""
