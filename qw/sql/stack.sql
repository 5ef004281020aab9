-- Stacks of running tasks, requested from their workers and kept after the tasks end.

-- name: ask
-- No row: the task does not run.
with running as (
  select task_id, worker from qw.running where task_id = %(id)s::uuid
), asked as (
  insert into qw.stack (task_id, worker, asked_at) select task_id, worker, clock_timestamp() from running
  on conflict (task_id) do update set worker = excluded.worker, asked_at = excluded.asked_at
  returning asked_at, worker
)
select asked_at, pg_notify('qw_stack', worker::text) from asked

-- name: requested
select task_id from qw.stack where worker = %(worker)s and asked_at is not null order by task_id limit 100

-- name: answer
-- Without an answer the last one is kept: the task has ended.
update qw.stack set asked_at = null, at = case when %(answer)s::jsonb is null then at else clock_timestamp() end,
       answer = coalesce(%(answer)s::jsonb, answer)
 where task_id = %(id)s

-- name: find
select at, extract(epoch from clock_timestamp() - at)::float8, answer, asked_at is not null from qw.stack where task_id = %(id)s

-- name: prune
with old as (
  delete from qw.stack s where s.task_id = any(array(
    select s.task_id from qw.stack s where not exists (select 1 from qw.task t where t.id = s.task_id)
     limit %(limit)s for update skip locked)) returning 1
)
select count(*) from old
