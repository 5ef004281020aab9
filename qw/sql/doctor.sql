-- Checks of `qw doctor`. Cheap at any number of rows.

-- name: server
-- transaction_seconds: age of the oldest transaction of this database, which holds back vacuum. Without the rights of
-- pg_read_all_stats a role sees no transactions of other roles; hidden: the number of their sessions.
select current_setting('server_version_num')::integer as version, statement_timestamp() as now, pg_is_in_recovery() as is_standby,
       current_setting('default_transaction_read_only')::boolean as is_read_only,
       (select coalesce(max(extract(epoch from statement_timestamp() - xact_start)), 0)::float8 from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()) as transaction_seconds,
       (select count(*) from pg_stat_activity
         where datname = current_database() and usesysid is not null and query = '<insufficient privilege>') as hidden,
       pg_database_size(current_database()) as bytes

-- name: dead
-- Narrow tables with many more dead rows than an unhindered vacuum leaves.
select relname::text as name, n_dead_tup as dead from pg_stat_user_tables
 where schemaname = 'qw' and n_dead_tup > 200000 and n_dead_tup > 2 * n_live_tup order by n_dead_tup desc

-- name: waiting
-- Queues and types of the waiting tasks: of the first 100 tasks of each lane and each limited queue, and of the
-- unserved ones.
select l.queue, t.type
  from qw.lane l
  cross join lateral (
    select r.task_id from qw.ready r where r.queue = l.queue and r.priority = l.priority order by r.seq limit 100) head
  join qw.task t on t.id = head.task_id
union
select q.name, t.type
  from qw.queue q
  cross join lateral (select h.task_id from qw.held h where h.queue = q.name order by h.seq limit 100) head
  join qw.task t on t.id = head.task_id
 where q.is_limited
union
select s.queue, t.type
  from (select task_id, queue from qw.scheduled where reason = 'unserved' limit 1000) s join qw.task t on t.id = s.task_id
order by 1, 2
