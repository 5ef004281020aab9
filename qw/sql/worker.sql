-- Workers: registration, heartbeat, death, notifications.

-- name: register
with worker as (
  insert into qw.worker (host, pid, version, types, versions, queues, slots)
  values (%(host)s, %(pid)s, %(version)s, %(types)s, %(versions)s, %(queues)s, %(slots)s)
  returning id, host, pid
), events as (
  insert into qw.outbox (type, data)
  select w.type, jsonb_build_object('worker', k.id, 'host', k.host, 'pid', k.pid) from worker k, qw.wanted w
   where w.type = 'worker.up'
)
select id from worker

-- name: hold
-- A shared session lock on the worker's id shows that it is alive; the server releases it when the session ends.
select pg_advisory_lock_shared(7177, %(worker)s::integer)

-- name: record_server
-- Store the server on which the session lock was taken: from now on, a missing lock on that server is evidence of a
-- death.
update qw.worker set server = pg_postmaster_start_time() where id = %(worker)s

-- name: beat
-- No row: the worker was declared dead and must register again. Asynchronous commit: a heartbeat lost in a server crash
-- is soon followed by another.
update qw.worker set beats = beats + 1, seen_at = clock_timestamp(), memory = %(memory)s
 where id = %(worker)s and dead_at is null
returning set_config('synchronous_commit', 'off', true)

-- name: survived
-- Record that the process of a worker that was declared dead is running: no crash ended its tasks.
update qw.worker set death = 'survived' where id = %(worker)s and death = 'crashed'

-- name: held
-- The running tasks of the worker, with their current fences.
select task_id, fence from qw.running where worker = %(worker)s

-- name: cancel_requests
-- Running tasks of this worker with a cancel request.
select c.task_id, c.reason from qw.cancel_request c join qw.running r on r.task_id = c.task_id
 where r.worker = %(worker)s and c.running

-- name: stop
update qw.worker set stopped_at = now() where id = %(worker)s and dead_at is null

-- name: wait
-- Register this worker for notifications of these queues ('*': all).
insert into qw.idle (queue, worker) select q, %(worker)s::integer from unnest(%(queues)s::text[]) q order by q
on conflict do nothing

-- name: wake
delete from qw.idle where worker = %(worker)s

-- name: other_workers
-- The other workers, from view qw.life.
select id, locks, locked, gone, beats from qw.life where id <> %(worker)s

-- name: mark_dead
-- Declare workers dead, unless they have sent a heartbeat since they were observed. Returns the dead ones.
with found as materialized (
  select w.id, g.death from qw.worker w
    join unnest(%(workers)s::integer[], %(beats)s::bigint[], %(deaths)s::text[]) g (id, beats, death) on g.id = w.id
   where w.dead_at is null and w.stopped_at is null and w.beats = g.beats order by w.id for update of w
), lost as (
  update qw.worker w set dead_at = now(), death = found.death from found where w.id = found.id
  returning w.id, w.host, w.pid
), idle as (
  delete from qw.idle where worker = any(array(select id from lost))
), events as (
  insert into qw.outbox (type, data)
  select w.type, jsonb_build_object('worker', l.id, 'host', l.host, 'pid', l.pid) from lost l, qw.wanted w
   where w.type = 'worker.lost'
)
select id from lost

-- name: explain_crashes
-- Record that a task, which was failed for crashing workers, caused these crashes: they do not count against other
-- tasks.
update qw.worker set killed_by = %(task)s where death = 'crashed' and killed_by is null and id in (
  select worker from qw.attempt where task_id = %(task)s and outcome = 'worker_died'
  union select worker from qw.finished where task_id = %(task)s)

-- name: orphans
-- Running tasks of dead workers, in id order. crashed: the worker's process ended. crashes: the crashes so far, except
-- explained ones (the process survived, or another task was failed for ending it). losses: how often a worker that held
-- the task was declared dead without a crash, since the last manual retry.
select r.task_id, r.fence, r.attempt, r.retries, r.worker, t.unique_key, t.run_id, t.parent_id, t.type, r.queue,
       coalesce(w.death = 'crashed', false) as crashed,
       greatest(r.crashes - h.explained, 0)::integer as crashes, h.losses
  from qw.running r join qw.task t on t.id = r.task_id left join qw.worker w on w.id = r.worker
       cross join lateral (
         select count(*) filter (where is_explained) as explained,
                count(*) filter (where not is_crash)::integer as losses
           from qw.worker_death d where d.task_id = r.task_id) h
 where r.worker = any(%(workers)s::integer[])
 order by r.task_id limit %(limit)s

-- name: list
-- Live workers, newest first; each with the number of tasks it holds.
select w.id, w.host, w.pid, w.version, w.types, w.queues, w.slots, w.started_at, w.seen_at, w.draining, w.trouble, w.skew,
       w.memory, (select count(*) from qw.running r where r.worker = w.id) as running
  from qw.worker w where w.dead_at is null and w.stopped_at is null order by w.id desc

-- name: set_trouble
update qw.worker set trouble = %(trouble)s::text where id = %(worker)s::integer

-- name: set_skew
update qw.worker set skew = %(skew)s::interval where id = %(worker)s::integer

-- name: prune
-- Delete workers that ended long ago, and the requests of dead workers for a NOTIFY, which would burden each enqueue.
with idle as (
  delete from qw.idle i
   where not exists (select 1 from qw.worker w where w.id = i.worker and w.dead_at is null and w.stopped_at is null)
), old as (
  delete from qw.worker where coalesce(dead_at, stopped_at) < now() - %(age)s::interval
     and not exists (select 1 from qw.running r where r.worker = qw.worker.id) returning 1
)
select count(*) from old

-- name: served_elsewhere
-- Those of the given types that another live worker serves.
select distinct s.type from qw.worker w, unnest(w.types) as s (type)
 where w.id <> %(worker)s::integer and w.dead_at is null and w.stopped_at is null and not w.draining
   and s.type = any(%(types)s::text[])

-- name: other_versions
-- Whether a live worker serves the task's queue with a version of the handler that has not received its payload yet,
-- and the seconds since the payload was first found not to fit.
select exists (
         select 1 from qw.worker w
          where w.dead_at is null and w.stopped_at is null and not w.draining
            and (w.queues = '{}' or %(queue)s::text = any(w.queues))
            and w.versions ->> %(type)s::text <> %(version)s::text
            and not exists (
              select 1 from qw.attempt a join qw.worker r on r.id = a.worker
               where a.task_id = %(task)s and a.outcome = 'misfit'
                 and r.versions ->> %(type)s::text = w.versions ->> %(type)s::text)),
       coalesce((select extract(epoch from statement_timestamp() - min(ended_at)) from qw.attempt
                  where task_id = %(task)s and outcome = 'misfit'), 0)::float8

-- name: poll
-- The poll of all services in one statement. Returns: open lanes; seconds until the next scheduled task (negative:
-- overdue; null: none); whether there are runs to advance, tasks that may resume and cancel requests; heartbeat
-- counters of the other workers; whether one of them may be dead; whether this one was declared dead; whether it
-- drains; seconds until the next schedule; whether there are limits, or tasks still held by former limits; whether held
-- tasks may be admitted; whether running tasks have this worker's number; whether one of their stacks is requested;
-- whether the outbox has events after the relay's cursor; the last change of definitions; the slots that this worker
-- should have; where the next poll continues among the tasks that run after others (a part is checked each time; null:
-- from the start); the time. It also records a heartbeat: see beat.
with beat as (
  update qw.worker set beats = beats + 1, seen_at = clock_timestamp(), memory = coalesce(%(memory)s::bigint, memory)
   where id = %(worker)s::integer and dead_at is null
  returning draining, slots, set_config('synchronous_commit', 'off', true)
), looked as materialized (  -- tasks that others run after: ending a task does not look for these, to keep it fast
  select c.child_id, c.task_id from qw.checkpoint c
   where c.kind = 'after' and c.outcome is null
     and (c.child_id, c.task_id) > (%(after_child)s::uuid, %(after_task)s::uuid)
   order by c.child_id, c.task_id limit %(looked)s
), ended as (
  insert into qw.wakeup (task_id)
  select distinct c.task_id from looked c  -- by key: for exists (…) or …, PostgreSQL hashes all tasks at each poll
    left join lateral (select 1 as is_there from qw.finished f where f.task_id = c.child_id limit 1) f on true
    left join lateral (select 1 as is_there from qw.task t where t.id = c.child_id limit 1) t on true
   where f.is_there is not null or t.is_there is null
  returning 1
)
select
  l.queues, l.priorities,
  (select extract(epoch from s.run_at - now())::float8 from qw.scheduled s
    where s.run_at >= %(cursor)s::timestamptz and s.run_at < 'infinity' order by s.run_at limit 1) as due,
  exists (select 1 from qw.advance a where a.at <= now()) as advance,
  exists (select 1 from qw.wakeup) or exists (select 1 from ended) as wakeups,
  exists (select 1 from qw.cancel_request) as cancels,
  others.ids, others.beats, others.doubts,
  not exists (select 1 from beat) as dead,
  coalesce((select draining from beat), false) as draining,
  (select extract(epoch from s.next_at - now())::float8 from qw.schedule s
    where s.next_at is not null order by s.next_at, s.id limit 1) as schedule,
  exists (select 1 from qw.queue q where q.is_limited) or exists (select 1 from qw.held) as limits,
  exists (select 1 from qw.queue q where q.is_limited and q.paused_at is null
             and exists (select 1 from qw.held h where h.queue = q.name)) as held,
  exists (select 1 from qw.running r where r.worker = %(worker)s::integer) as holds,
  exists (select 1 from qw.stack k where k.worker = %(worker)s::integer and k.asked_at is not null) as asked,
  exists (select 1 from qw.outbox o where o.id > %(outbox)s::bigint) as events,
  (select max(a.id) from qw.applied a) as applied,
  (select slots from beat) as slots,
  (select array[c.child_id, c.task_id] from looked c
    order by c.child_id, c.task_id offset %(looked)s - 1 limit 1) as looked,
  extract(epoch from clock_timestamp())::float8 as time
from (select coalesce(array_agg(queue), '{}') as queues, coalesce(array_agg(priority), '{}') as priorities
        from qw.lane) l,
     (select coalesce(array_agg(f.id) filter (where not f.gone), '{}') as ids,
             coalesce(array_agg(f.beats) filter (where not f.gone), '{}') as beats,
             coalesce(bool_or(f.gone or f.locks and not f.locked), false) as doubts
        from qw.life f where f.id <> %(worker)s::integer) others

-- name: drain
-- Ask a worker to drain and stop; its next poll sees that. No row: it is not alive.
update qw.worker set draining = true where id = %(worker)s and dead_at is null and stopped_at is null returning id

-- name: resize
-- Change how many handlers workers run at once; their next poll sees it. null: all live workers. Returns the live ones.
with living as materialized (
  select id from qw.worker
   where (%(workers)s::integer[] is null or id = any(%(workers)s::integer[])) and dead_at is null and stopped_at is null
   order by id for update
)
update qw.worker w set slots = w.slots || %(slots)s::jsonb from living where w.id = living.id returning w.id

-- name: tasks
-- The running tasks of a worker, longest-running first.
select r.task_id, t.type, t.queue, r.attempt, r.claimed_at from qw.running r join qw.task t on t.id = r.task_id
 where r.worker = %(worker)s order by r.claimed_at, r.task_id limit %(limit)s
