-- Task operations of workers: claim tasks, end attempts, look up fences.

-- name: claim
-- Take up to *room* tasks from lanes (queue, priority, cursor, quota), in the order the lanes are given. Skips locked
-- rows and paused queues; returns nothing if the worker was declared dead. Rows are returned unordered.
--
-- ctid is safe because rows of qw.ready are never updated. One LATERAL per lane: with queue = any(…) order by,
-- PostgreSQL sorts the whole backlog (160 ms against 2 ms at 300,000 rows).
with chosen as materialized (
  select r.ctid
    from unnest(%(queues)s::text[], %(priorities)s::smallint[], %(cursors)s::bigint[], %(quotas)s::integer[])
           as l (queue, priority, cursor, quota),
         lateral (
           select ctid from qw.ready r
            where r.queue = l.queue and r.priority = l.priority and r.seq > l.cursor
            order by r.seq limit l.quota for update skip locked) r
   where (select w.dead_at is null and w.stopped_at is null from qw.worker w where w.id = %(worker)s::integer)
     and not exists (select 1 from qw.queue q where q.name = l.queue and q.paused_at is not null)
   limit %(room)s::integer
), taken as materialized (
  delete from qw.ready where ctid = any(array(select ctid from chosen))
  returning task_id, seq, queue, priority, attempt + 1 as attempt, retries, crashes, at,
            nextval('qw.fence_seq') as fence
), running as (
  insert into qw.running (task_id, fence, attempt, retries, crashes, seq, queue, priority, worker)
  select task_id, fence, attempt, retries, crashes, seq, queue, priority, %(worker)s::integer from taken
), events as (
  insert into qw.outbox (type, task_id, fence, attempt)
  select w.type, k.task_id, k.fence, k.attempt from taken k, qw.wanted w where w.type = 'task.started'
)
select t.id, k.fence, k.attempt, k.retries, k.crashes, k.seq, k.queue, k.priority, t.type, t.payload, t.max_retries,
       t.timeout, t.backoff, t.unique_key, t.run_id, t.step, t.parent_id, t.headers,
       exists (select 1 from qw.cancel_request c where c.task_id = k.task_id) as cancel_asked,
       extract(epoch from statement_timestamp() - k.at)::float8 as waited
  from taken k join qw.task t on t.id = k.task_id

-- name: claim_some
-- Like claim, but leave out types whose slots are full, and rows with *crashes* or more crashes. If *apart* names
-- workers, include rows with exactly that many crashes unless one of these workers died while running them. Reads only
-- the first 1,000 rows of a lane, since a million may be of such a type.
with chosen as materialized (
  select r.ctid
    from unnest(%(queues)s::text[], %(priorities)s::smallint[], %(cursors)s::bigint[], %(quotas)s::integer[])
           as l (queue, priority, cursor, quota),
         lateral (
           select ctid from qw.ready r
            where r.ctid = any(array(
                select w.ctid from qw.ready w
                 where w.queue = l.queue and w.priority = l.priority and w.seq > l.cursor
                 order by w.seq limit 1000))
              and (r.crashes < %(crashes)s::smallint
                   or r.crashes = %(crashes)s::smallint and (
                     select count(*) >= r.crashes and not coalesce(bool_or(a.worker = any(%(apart)s::integer[])), true)
                       from qw.attempt a where a.task_id = r.task_id and a.outcome = 'worker_died'))
              and not exists (
                select 1 from qw.task f where f.id = r.task_id and f.type = any(%(without)s::text[]))
            order by r.seq limit l.quota for update skip locked) r
   where (select w.dead_at is null and w.stopped_at is null from qw.worker w where w.id = %(worker)s::integer)
     and not exists (select 1 from qw.queue q where q.name = l.queue and q.paused_at is not null)
   limit %(room)s::integer
), taken as materialized (
  delete from qw.ready where ctid = any(array(select ctid from chosen))
  returning task_id, seq, queue, priority, attempt + 1 as attempt, retries, crashes, at,
            nextval('qw.fence_seq') as fence
), running as (
  insert into qw.running (task_id, fence, attempt, retries, crashes, seq, queue, priority, worker)
  select task_id, fence, attempt, retries, crashes, seq, queue, priority, %(worker)s::integer from taken
), events as (
  insert into qw.outbox (type, task_id, fence, attempt)
  select w.type, k.task_id, k.fence, k.attempt from taken k, qw.wanted w where w.type = 'task.started'
)
select t.id, k.fence, k.attempt, k.retries, k.crashes, k.seq, k.queue, k.priority, t.type, t.payload, t.max_retries,
       t.timeout, t.backoff, t.unique_key, t.run_id, t.step, t.parent_id, t.headers,
       exists (select 1 from qw.cancel_request c where c.task_id = k.task_id) as cancel_asked,
       extract(epoch from statement_timestamp() - k.at)::float8 as waited
  from taken k join qw.task t on t.id = k.task_id

-- name: end
-- Store the outcomes of attempts, given as arrays of equal length in id order. Returns the fences that still held their
-- task: an attempt whose fence is missing lost its lease, and nothing of it was written.
--
-- A final status is inserted into finished. Other outcomes are inserted into scheduled if they have a delay, otherwise
-- into ready with their old seq; workers that wait for that lane are notified.
with gone as materialized (
  delete from qw.running r
   using unnest(
     %(ids)s::uuid[], %(fences)s::bigint[], %(attempts)s::integer[], %(statuses)s::text[], %(retries)s::smallint[],
     %(crashes)s::smallint[], %(delays)s::interval[], %(reasons)s::text[], %(results)s::jsonb[], %(errors)s::text[],
     %(outcomes)s::text[], %(kinds)s::text[], %(seconds)s::float8[], %(keys)s::text[], %(runs)s::uuid[],
     %(parents)s::uuid[])
     as g (id, fence, attempt, status, retries, crashes, delay, reason, result, error, outcome, kind, seconds, key, run_id,
           parent_id)
   where r.task_id = g.id and r.fence = g.fence
  returning r.task_id, r.fence, g.attempt, r.seq, r.queue, r.priority, r.worker,
            coalesce(statement_timestamp() - make_interval(secs => g.seconds), r.claimed_at) as started_at,
            g.status, g.retries, g.crashes, g.delay, g.reason, g.result, g.error, g.outcome, g.kind, g.key, g.run_id,
            g.parent_id,
            g.status in ('completed', 'failed', 'cancelled') as final
), finished as (
  insert into qw.finished (
    task_id, status, fence, attempt, retries, crashes, worker, started_at, result, error, error_kind)
  select task_id, status, fence, attempt, retries, crashes, worker, started_at, result, error, kind from gone where final
), scheduled as (
  insert into qw.scheduled (task_id, run_at, queue, priority, attempt, retries, crashes, reason)
  select task_id, statement_timestamp() + delay, queue, priority, attempt, retries, crashes, reason from gone
   where not final and delay is not null
), ready as (
  insert into qw.ready (seq, task_id, queue, priority, attempt, retries, crashes)
  select seq, task_id, queue, priority, attempt, retries, crashes from gone where not final and delay is null
), history as (
  insert into qw.attempt (task_id, fence, outcome, attempt, worker, started_at, error, error_kind)
  select task_id, fence, outcome, attempt, worker, started_at, error, kind from gone where outcome is not null
  on conflict do nothing
), keys as (
  delete from qw.unique_key u where u.key = any(array(select key from gone where final and key is not null))
    and u.task_id = any(array(select task_id from gone where final and key is not null))
), requests as (
  delete from qw.cancel_request where task_id = any(array(select task_id from gone where final))
), news as (
  insert into qw.advance (run_id) select distinct run_id from gone where final and run_id is not null
), wakeups as (  -- wake the caller; a cancelled task itself, to cancel its calls
  insert into qw.wakeup (task_id)
  select parent_id from gone where final and parent_id is not null
  union all
  select task_id from gone where status = 'cancelled'
), events as (
  insert into qw.outbox (type, task_id, fence, attempt, error, data)
  select g.event, g.task_id, g.fence, g.attempt, g.error,
         case when g.kind is not null then jsonb_build_object('errorKind', g.kind) end
    from (select case when outcome = 'worker_died' then 'task.rescued'
                      when final or outcome is not null then 'task.' || status end as event,  -- none if handed back
                 task_id, fence, attempt, error, kind from gone) g
   where g.event = any(array(select type from qw.wanted))
), counts as (
  insert into qw.tally (queue, live, completed, failed, cancelled)
  select queue, -count(*), count(*) filter (where status = 'completed'), count(*) filter (where status = 'failed'),
         count(*) filter (where status = 'cancelled') from gone where final group by queue
), woken as (
  select pg_notify('qw_ready', l.queue || ' ' || l.priority)
    from (select distinct queue, priority from gone where not final and delay is null) l
   where exists (select 1 from qw.idle i where i.queue in (l.queue, '*'))
)
select fence, (select count(*) from woken) from gone

-- name: limit_lock_waits
-- Until the end of the transaction, wait for each lock only briefly: its holder may wait for a lock of ours. The
-- timeout is far below deadlock_timeout, so that this transaction is always the one that gives up. Tasks that it
-- enqueues notify other workers only.
select set_config('lock_timeout', '50ms', true), set_config('qw.worker', %(worker)s::text, true)

-- name: complete
-- The most common outcome with a third of the arrays: completed, without a unique key and a run. All else is read from
-- running.
with gone as materialized (
  delete from qw.running r
   using unnest(%(ids)s::uuid[], %(fences)s::bigint[], %(seconds)s::float8[], %(results)s::jsonb[])
     as g (id, fence, seconds, result)
   where r.task_id = g.id and r.fence = g.fence
  returning r.task_id, r.fence, r.attempt, r.retries, r.crashes, r.queue, r.worker,
            statement_timestamp() - make_interval(secs => g.seconds) as started_at, g.result
), finished as (
  insert into qw.finished (
    task_id, status, fence, attempt, retries, crashes, worker, started_at, result)
  select task_id, 'completed', fence, attempt, retries, crashes, worker, started_at, result from gone
), requests as (
  delete from qw.cancel_request where task_id = any(array(select task_id from gone))
), events as (
  insert into qw.outbox (type, task_id, fence, attempt)
  select w.type, g.task_id, g.fence, g.attempt from gone g, qw.wanted w where w.type = 'task.completed'
), counts as (
  insert into qw.tally (queue, live, completed) select queue, -count(*), count(*) from gone group by queue
)
select fence from gone

-- name: suspend
-- End attempts that wait for a time (null: without end), a signal or a called task. Their retries and crashes are
-- reset, because the handler made progress. The awaited checkpoints, in separate arrays, get the fence of the attempt;
-- an attempt with a *kind* begins to wait for a new one, for *delay*. Returns the fences that still held their task.
with gone as materialized (
  delete from qw.running r
   using unnest(
     %(ids)s::uuid[], %(fences)s::bigint[], %(attempts)s::integer[], %(untils)s::timestamptz[], %(most_opens)s::integer[],
     %(reasons)s::text[], %(kinds)s::text[], %(new_names)s::text[], %(new_occurrences)s::integer[], %(places)s::float8[],
     %(delays)s::interval[])
     as g (id, fence, attempt, until, most_open, reason, kind, name, occurrence, place, delay)
   where r.task_id = g.id and r.fence = g.fence
  returning r.task_id, r.fence, g.attempt, r.queue, r.priority, g.most_open, g.reason, g.kind, g.name, g.occurrence,
            g.place, case when g.kind is null then g.until else statement_timestamp() + g.delay end as until
), scheduled as (
  insert into qw.scheduled (task_id, run_at, queue, priority, attempt, reason, fence, most_open)
  select task_id, coalesce(until, 'infinity'), queue, priority, attempt, reason, fence, most_open from gone
), begun as (
  insert into qw.checkpoint (task_id, name, occurrence, kind, place, fence, due_at)
  select task_id, name, occurrence, kind, place, fence, until from gone where kind is not null
), awaited as (
  update qw.checkpoint c set fence = g.fence
    from gone g, unnest(%(of_ids)s::uuid[], %(branches)s::text[], %(names)s::text[], %(occurrences)s::integer[])
      as k (id, branch, name, occurrence)
   where k.id = g.task_id and c.task_id = k.id and c.branch = k.branch and c.name = k.name
     and c.occurrence = k.occurrence and c.fence is distinct from g.fence
), wakeups as (
  insert into qw.wakeup (task_id) select task_id from gone where task_id = any(%(told)s::uuid[])
)
select fence from gone

-- name: crash_records
-- For running tasks: the number of unexplained crashes, and the workers that died in these.
select r.task_id, greatest(r.crashes - count(*) filter (where d.is_explained), 0)::integer,
       coalesce(array_agg(d.worker) filter (where d.is_crash and not d.is_explained), '{}')
  from qw.running r left join qw.worker_death d on d.task_id = r.task_id
 where r.task_id = any(%(ids)s::uuid[]) group by r.task_id, r.crashes

-- name: recorded
-- Those of the fences that have ended. An outcome whose commit is uncertain is looked up here before it counts as lost.
select fence from qw.finished f where f.task_id = any(%(ids)s::uuid[]) and f.fence = any(%(fences)s::bigint[])
union
select fence from qw.attempt a where a.task_id = any(%(ids)s::uuid[]) and a.fence = any(%(fences)s::bigint[])
   and a.outcome in ('error', 'timed_out', 'superseded', 'misfit', 'repeated')

-- name: record_lost
-- Store a result that arrived after its lease was lost, in the history only.
insert into qw.attempt (task_id, fence, outcome, attempt, worker, error, result)
select g.id, g.fence, 'lease_lost', g.attempt, %(worker)s::integer, g.error, g.result
  from unnest(%(ids)s::uuid[], %(fences)s::bigint[], %(attempts)s::integer[], %(errors)s::text[], %(results)s::jsonb[])
    as g (id, fence, attempt, error, result)
 where exists (select 1 from qw.task t where t.id = g.id)
on conflict do nothing

-- name: lanes
select queue, priority from qw.lane

-- name: promote
-- Move due tasks to ready, oldest first, at the end of their lanes. Returns the lane and due time of each.
with due as (
  delete from qw.scheduled where task_id = any(array(
    select task_id from qw.scheduled where run_at <= statement_timestamp() and run_at >= %(cursor)s::timestamptz
     order by run_at, task_id limit %(limit)s for update skip locked))
  returning task_id, run_at, queue, priority, attempt, retries, crashes
), moved as (
  insert into qw.ready (task_id, queue, priority, attempt, retries, crashes)
  select task_id, queue, priority, attempt, retries, crashes from due order by run_at, task_id
)
select queue, priority, run_at from due

-- name: release_unserved
-- Make tasks ready that were parked because no worker served their type or accepted their payload.
with back as (
  delete from qw.scheduled where task_id = any(array(
    select s.task_id from qw.scheduled s join qw.task t on t.id = s.task_id
     where s.reason in ('unserved', 'misfit') and t.type = any(%(types)s::text[]) order by s.task_id limit 10000
     for update of s skip locked))
  returning task_id, queue, priority, attempt, retries, crashes
), moved as (
  insert into qw.ready (task_id, queue, priority, attempt, retries, crashes)
  select task_id, queue, priority, attempt, retries, crashes from back order by task_id
)
select distinct queue, priority from back
