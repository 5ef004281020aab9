-- Why a task does not run: a few queries, each answered by an index at any number of rows.

-- name: facts
-- One row if the task exists. ahead: the number of ready tasks before it in its queue, at most *most*. usual_seconds:
-- the average run time of the newest tasks of its type; null: none of them has ended.
select
  q.paused_at, q.paused_by,
  c.reason as cancel_reason, c.requested_at as cancel_at,
  qw.ahead(t.queue, mine.priority, mine.seq, %(most)s::integer) as ahead,
  (select avg(extract(epoch from f.finished_at - f.started_at))::float8 from (
     select id from qw.task recent where recent.type = t.type order by recent.id desc limit 50
   ) recent cross join lateral (
     select started_at, finished_at from qw.finished where task_id = recent.id and started_at is not null offset 0
   ) f) as usual_seconds,
  w.host as worker_host, w.pid as worker_pid, w.seen_at as worker_seen_at, w.draining as worker_draining,
  (w.dead_at is not null or w.stopped_at is not null) as worker_gone,
  (select count(*) from qw.worker_death d where d.task_id = t.id and not d.is_crash) as losses,
  statement_timestamp() as now
from qw.task t
left join qw.ready mine on mine.task_id = t.id
left join qw.running r on r.task_id = t.id
left join qw.worker w on w.id = r.worker
left join qw.queue q on q.name = t.queue and q.paused_at is not null
left join qw.cancel_request c on c.task_id = t.id
where t.id = %(id)s

-- name: suspects
-- The number of running tasks with two or more crashes: a process runs one such task at a time.
select count(*) from qw.running where crashes >= 2

-- name: waits_for_advance
-- Whether messages for a run wait for an advancer; timers that are not due do not count.
select exists (select 1 from qw.advance where run_id = %(run_id)s and at <= statement_timestamp())

-- name: running
-- The number of running tasks by worker and type.
select r.worker, t.type, count(*)::integer as n
  from qw.running r cross join lateral (select type from qw.task where id = r.task_id offset 0) t
 group by r.worker, t.type

-- name: limited
-- For a held task: the limits of its queue, the holders of the slots, and the number of tasks with its key before it,
-- at most 10,000. rate_at, key_rate_at: when a bucket admits the next task. No row: no limit holds the task.
select q.concurrency, q.rate, q.rate_period, q.key, q.per_key, q.key_rate, q.key_rate_period, h.key as value,
       slots.running, slots.key_running, slots.holders[:3] as holders,
       (select count(*) from (
          select 1 from qw.held w
           where w.queue = h.queue and w.key = h.key and (w.priority, w.seq) < (h.priority, h.seq) limit 10000) w) as ahead,
       (select r.full_at - q.rate_period + q.rate_period / q.rate from qw.rate r
         where r.queue = h.queue and not r.is_of_key) as rate_at,
       (select r.full_at - q.key_rate_period + q.key_rate_period / q.key_rate from qw.rate r
         where r.queue = h.queue and r.is_of_key and r.key = h.key) as key_rate_at
  from qw.held h
  join qw.queue q on q.name = h.queue and q.is_limited
  cross join lateral (
    select count(*) as running, count(*) filter (where a.key = h.key) as key_running,
           array_agg(a.task_id order by a.key <> h.key, a.task_id) as holders
      from qw.admitted a
     where a.queue = h.queue and (exists (select 1 from qw.ready r where r.task_id = a.task_id)
                                  or exists (select 1 from qw.running r where r.task_id = a.task_id))) slots
 where h.task_id = %(id)s
