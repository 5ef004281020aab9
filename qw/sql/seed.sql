-- Sample data for trying out the API: insert and delete.

-- name: is_empty
select not exists (select 1 from qw.task)

-- name: fill
-- Insert finished tasks of each type, every fourth of them failed, each with a log line. Returns the numbers of tasks
-- and lines.
with kind as (
  select g.type, n, qw.new_id() as id, n %% 4 = 3 as failed
    from unnest(%(types)s::text[]) as g (type), generate_series(1, %(per_type)s::integer) n
), task as (
  insert into qw.task (id, queue, type, payload, priority)
  select id, 'default', type, jsonb_build_object('seeded', true, 'number', n), 5 from kind
), finished as (
  insert into qw.finished (task_id, status, fence, attempt, retries, crashes, started_at, result, error)
  select id, case when failed then 'failed' else 'completed' end, nextval('qw.fence_seq'), 1,
         case when failed then 1 else 0 end, 0, statement_timestamp(), case when not failed then '{"seeded": true}'::jsonb end,
         case when failed then 'a sample of a failure' end
    from kind
), line as (
  insert into qw.task_log (task_id, attempt, level, message)
  select id, 1, case when failed then 'ERROR' else 'INFO' end, 'a sample of a line' from kind
  returning 1
), counts as (
  insert into qw.tally (queue, completed, failed)
  select 'default', count(*) filter (where not failed), count(*) filter (where failed) from kind
)
select (select count(*) from kind) as tasks, (select count(*) from line) as lines

-- name: clear
-- Delete everything except workers, types, queues and invoice numbers. Locks the tables until the end of the
-- transaction.
truncate qw.task, qw.ready, qw.scheduled, qw.held, qw.admitted, qw.running, qw.finished, qw.attempt, qw.unique_key,
         qw.idempotency, qw.cancel_request, qw.progress, qw.checkpoint, qw.task_signal, qw.wakeup, qw.task_log, qw.tally, qw.workflow,
         qw.workflow_version, qw.run, qw.run_step, qw.run_item, qw.signal, qw.advance, qw.outbox, qw.event, qw.schedule, qw.schedule_fire,
         qw.owned, qw.applied
