"""The output of ``qw`` without arguments: the most used commands, and how to list the others."""

PAGE = """\
qw: a durable task queue on PostgreSQL

  qw daemon                     run tasks (in a terminal of its own)
  qw run -f -- CMD [ARG]...     run a command as a task and follow its output
  qw enqueue TYPE               enqueue a task of a type
  qw task list                  what the tasks do, and how they ended
  qw logs -f ID                 follow the log of a task
  qw why ID                     why a task or run is not progressing
  qw task retry|cancel ID       run it again, or stop it
  qw workflow start NAME        start a workflow
  qw schedule add NAME ...      start a task or workflow at given times
  qw status                     queues, workers and failures

No database is needed: qw starts a PostgreSQL of its own. See it work: qw demo
Start your own project: qw init.  Every command: qw help all.  One: qw help run"""
