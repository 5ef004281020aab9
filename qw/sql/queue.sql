-- Queues: paused and resumed. What is in them is counted by task.stats.

-- name: paused
-- In name order.
select name, paused_at, paused_by from qw.queue where paused_at is not null order by name

-- name: pause
-- A queue that is paused already keeps its time and who paused it.
insert into qw.queue (name, paused_at, paused_by) values (%(name)s, now(), %(by)s)
on conflict (name) do update set paused_at = coalesce(qw.queue.paused_at, excluded.paused_at),
                                 paused_by = coalesce(qw.queue.paused_by, excluded.paused_by)

-- name: resume
-- No row: it was not paused.
update qw.queue set paused_at = null, paused_by = null where name = %(name)s and paused_at is not null returning name

-- name: wake
-- Tell who waits for tasks that there are some in this queue.
select qw.wake(l.queue, l.priority) from qw.lane l where l.queue = %(name)s
