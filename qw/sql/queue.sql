-- Queues: paused and resumed. What is in them is counted by task.stats.

-- name: paused
-- In name order.
select name, paused_at, paused_by from qw.queue where paused_at is not null order by name

-- name: pause
-- A queue that is paused already keeps its time and who paused it.
with events as (
  insert into qw.outbox (type, data)
  select w.type, jsonb_build_object('queue', %(name)s::text, 'by', %(by)s::text) from qw.wanted w
   where w.type = 'queue.paused'
     and not exists (select 1 from qw.queue q where q.name = %(name)s::text and q.paused_at is not null)
)
insert into qw.queue (name, paused_at, paused_by) values (%(name)s, now(), %(by)s)
on conflict (name) do update set paused_at = coalesce(qw.queue.paused_at, excluded.paused_at),
                                 paused_by = coalesce(qw.queue.paused_by, excluded.paused_by)

-- name: resume
-- No row: it was not paused.
with resumed as (
  update qw.queue set paused_at = null, paused_by = null where name = %(name)s and paused_at is not null returning name
), events as (
  insert into qw.outbox (type, data)
  select w.type, jsonb_build_object('queue', r.name) from resumed r, qw.wanted w where w.type = 'queue.resumed'
)
select name from resumed

-- name: wake
-- Tell who waits for tasks that there are some in this queue.
select qw.wake(l.queue, l.priority) from qw.lane l where l.queue = %(name)s
