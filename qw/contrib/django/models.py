"""Empty: qw manages its own tables. Django sends `post_migrate` only to applications that have this module."""
