-- Checkpoints of tasks: completed steps, and the waits of handlers. Suspended attempts are ended in claim.sql.

-- name: settle
-- Close the checkpoints of a task whose waits have ended; return all, in the order in which the handler reached them,
-- each with the names of the signals that were unread before. Without checkpoints: one row of nulls.
select u.names, c.task_id, c.branch, c.name, c.occurrence, c.kind, c.place, c.fence, c.due_at, c.child_id, c.outcome,
       c.value, c.error, c.at, c.ended_at
  from (select array(select distinct s.name from qw.task_signal s where s.task_id = %(id)s::uuid) as names) u
  left join qw.checkpoints_now(%(id)s::uuid) c on true

-- name: of_task
-- The checkpoints of a task by time, for display. Closes none.
select task_id, branch, name, occurrence, kind, place, fence, due_at, child_id, outcome, value, error, at, ended_at
  from qw.checkpoint where task_id = %(id)s order by at, branch, place

-- name: keep
-- Store a completed step. mine: whether the attempt still has its task. kept: whether the step was stored now.
with mine as (
  select 1 from qw.running where task_id = %(id)s and fence = %(fence)s
), kept as (
  insert into qw.checkpoint (task_id, branch, name, occurrence, place, outcome, value, ended_at)
  select %(id)s, %(branch)s, %(name)s, %(occurrence)s, %(place)s, 'completed', %(value)s::jsonb, statement_timestamp() from mine
  on conflict do nothing returning 1
)
select exists (select 1 from mine) as mine, exists (select 1 from kept) as kept

-- name: begin_wait
-- See qw.begin_wait. No row: the attempt has lost its task.
select task_id, branch, name, occurrence, kind, place, fence, due_at, child_id, outcome, value, error, at, ended_at
  from qw.begin_wait(
    %(id)s::uuid, %(fence)s::bigint, %(branch)s::text, %(name)s::text, %(occurrence)s::integer, %(kind)s::text,
    %(place)s::float8, %(delay)s::interval, %(child)s::uuid)

-- name: awaited
-- The open waits of a suspended task; for a called task also its type. No row: the task is not suspended.
select c.kind, c.branch, c.name, c.occurrence, c.at, c.due_at, c.child_id, t.type
  from qw.scheduled s join qw.checkpoint c on c.task_id = s.task_id and c.fence = s.fence and c.outcome is null
  left join lateral (select type from qw.task where id = c.child_id offset 0) t on true
 where s.task_id = %(id)s and s.fence is not null
 order by c.at, c.branch, c.place limit %(limit)s

-- name: signal
select qw.put_task_signal(%(id)s::uuid, %(name)s::text, %(payload)s::jsonb, %(by)s::text)

-- name: resume
select taken, queues, priorities from qw.resume_tasks(%(limit)s::integer)
