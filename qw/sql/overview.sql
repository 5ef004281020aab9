-- Queries for lists, health and metrics. None of them counts a large table.

-- name: scheduled
-- Ids of tasks with a future start, earliest first.
select task_id from qw.scheduled where reason = 'time' and retries = 0 order by run_at, task_id limit %(limit)s

-- name: last_errors
-- The errors of the last attempts of tasks that wait for a retry.
select distinct on (task_id) task_id, error from qw.attempt
 where task_id = any(%(ids)s::uuid[]) and outcome in ('error', 'timed_out', 'worker_died', 'misfit')
 order by task_id, ended_at desc

-- name: logs
-- The first log lines of several tasks, task by task, oldest first.
select l.task_id, l.id, l.attempt, l.at, l.level, l.message
  from unnest(%(ids)s::uuid[]) as g (id)
  cross join lateral (
    select * from qw.task_log where task_id = g.id order by task_log.id limit %(limit)s) l
 order by l.task_id, l.id

-- name: oldest
-- Seconds that the task at the head of each queue has waited there.
select queue, seconds from qw.oldest order by queue

-- name: paused
select name from qw.queue where paused_at is not null order by name

-- name: open_runs
select status, count(*) from (select status from qw.run where finished_at is null limit 10000) r group by status

-- name: outbox
-- The number of unpublished events, exact to 10,000, and the seconds since the first of them.
select count(*) as pending,
       coalesce(extract(epoch from statement_timestamp() - min(at) filter (where isfinite(at))), 0)::float8 as seconds
  from (select at from qw.outbox order by id limit 10000) o

-- name: database
-- Age in seconds of the oldest transaction of this database, which holds back vacuum.
select coalesce(max(extract(epoch from statement_timestamp() - xact_start)), 0)::float8 as seconds
  from pg_stat_activity where datname = current_database() and state <> 'idle' and pid <> pg_backend_pid()

-- name: transaction_id_age
-- Transactions since the oldest row of this database that is not frozen: at 2 billion PostgreSQL stops writing.
select age(datfrozenxid) from pg_database where datname = current_database()

-- name: retention_behind
-- Seconds by which the oldest finished task has outlived its retention. Ids contain times: only the first ids that are
-- old enough are read, which are the oldest tasks except those scheduled far ahead.
select coalesce(max(extract(epoch from statement_timestamp() - k.age - o.finished_at)), 0)::float8 as seconds
  from (values (true, %(completed)s::interval), (false, %(failed)s::interval)) as k (completed, age)
  cross join lateral (
    select f.finished_at from qw.finished f
     where f.task_id < qw.first_id(statement_timestamp() - k.age) and (f.status = 'completed') = k.completed
     order by f.task_id limit 100) o
 where o.finished_at < statement_timestamp() - k.age

-- name: table_bytes
-- Sizes with indexes and TOAST.
select c.relname::text, pg_total_relation_size(c.oid) from pg_class c
 where c.relnamespace = 'qw'::regnamespace and c.relkind = 'r' order by c.relname

-- name: dead_rows
select relname::text, n_dead_tup from pg_stat_user_tables where schemaname = 'qw' order by relname
