-- The task types registered by daemons.

-- name: serve
-- Register the types of a daemon, in name order.
insert into qw.type (name, schema, max_retries, timeout)
select * from unnest(%(names)s::text[], %(schemas)s::jsonb[], %(max_retries)s::smallint[], %(timeouts)s::interval[])
    as g (name, schema, max_retries, timeout) order by name
on conflict (name) do update
   set schema = excluded.schema, max_retries = excluded.max_retries, timeout = excluded.timeout, served_at = statement_timestamp()

-- name: names
select name from qw.task_types() name

-- name: schemas
select qw.task_schemas()
