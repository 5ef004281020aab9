-- Details of one queue, task or database for its page.

-- name: hosts
select id, host from qw.worker where id = any(%(ids)s::integer[])

-- name: made_of
-- Tasks made from a task: its compensations and copies. Each end of a task has its own idempotency key for them.
select k.task_id
  from (select fence from qw.finished where task_id = %(id)s::uuid
        union select fence from qw.attempt where task_id = %(id)s::uuid) e
  cross join unnest('{compensate,requeue}'::text[]) verb
  join qw.idempotency k on k.key = verb || ' ' || %(id)s::uuid || ' ' || e.fence
 order by k.task_id

-- name: types
select name, schema, max_retries, extract(epoch from timeout)::float8 from qw.type order by name

-- name: lanes
-- The number of claimable tasks of a queue by priority, each exact to 10,000.
select l.priority, (select count(*) from (
         select 1 from qw.ready r where r.queue = l.queue and r.priority = l.priority limit 10000) c)
  from qw.lane l where l.queue = %(queue)s order by l.priority

-- name: held
-- The number of tasks that a queue's limits hold back, exact to 10,000.
select count(*) from (select 1 from qw.held where queue = %(queue)s limit 10000) h

-- name: holders
-- Running tasks of a queue and, if it is limited, ready tasks that have a slot; longest-running first.
select coalesce(a.task_id, r.task_id), t.type, coalesce(a.key, ''), r.claimed_at, r.worker
  from (select task_id, key from qw.admitted where queue = %(queue)s limit 1000) a
  full join (select task_id, claimed_at, worker from qw.running where queue = %(queue)s limit 1000) r using (task_id)
  join qw.task t on t.id = task_id
 order by r.claimed_at nulls last, task_id limit %(limit)s

-- name: tables
select c.relname::text, greatest(c.reltuples, s.n_live_tup, 0)::bigint, pg_total_relation_size(c.oid), coalesce(s.n_dead_tup, 0),
       greatest(s.last_vacuum, s.last_autovacuum)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  left join pg_stat_user_tables s on s.relid = c.oid
 where n.nspname = 'qw' and c.relkind in ('r', 'p')
 order by 3 desc, 1

-- name: database
select current_setting('server_version'), pg_database_size(current_database()), current_setting('max_connections')::integer,
       coalesce((select greatest(extract(epoch from max(statement_timestamp() - xact_start)), 0)::float8
                   from pg_stat_activity
                  where datname = current_database() and state <> 'idle' and pid <> pg_backend_pid()), 0)

-- name: connections
select coalesce(nullif(application_name, ''), 'other'), count(*)::integer from pg_stat_activity
 where datname = current_database() group by 1 order by 2 desc, 1
