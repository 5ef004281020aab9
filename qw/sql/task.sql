-- Tasks: enqueue, read, cancel, retry. Operations of workers are in claim.sql.

-- name: enqueue
-- Store tasks without keys, given as arrays of equal length in the order they are to run. Returns the new ids. Existing
-- ids are not changed: `existing` tells whether they are the same tasks. No CTE is joined to another: under the planner
-- guards that is a nested loop.
with given as materialized (
  select * from unnest(
    %(id)s::uuid[], %(queue)s::text[], %(type)s::text[], %(payload)s::jsonb[], %(priority)s::smallint[],
    %(run_at)s::timestamptz[], %(delay)s::interval[], %(max_retries)s::smallint[], %(timeout)s::interval[],
    %(backoff)s::jsonb[], %(run_id)s::uuid[], %(step)s::text[], %(parent_id)s::uuid[], %(headers)s::jsonb[])
  with ordinality as g (
    id, queue, type, payload, priority, run_at, delay, max_retries, timeout,
    backoff, run_id, step, parent_id, headers, place)
), task as materialized (
  insert into qw.task (
    id, queue, type, payload, priority, max_retries, timeout, backoff, run_id, step, parent_id, headers)
  select id, queue, type, payload, priority, max_retries, timeout, backoff, run_id, step, parent_id, headers
    from given order by place
  on conflict (id) do nothing
  returning id, queue, priority
), ready as (
  insert into qw.ready (task_id, queue, priority)
  select id, queue, priority from given
   where id in (select id from task) and (coalesce(run_at, statement_timestamp() + delay) > statement_timestamp()) is not true
   order by place
), scheduled as (
  insert into qw.scheduled (task_id, run_at, queue, priority, reason)
  select id, coalesce(run_at, statement_timestamp() + delay), queue, priority, 'time' from given
   where id in (select id from task) and coalesce(run_at, statement_timestamp() + delay) > statement_timestamp()
), events as (
  insert into qw.outbox (type, task_id) select w.type, t.id from task t, qw.wanted w where w.type = 'task.created'
), counts as (
  insert into qw.tally (queue, live) select queue, count(*) from task group by queue
), woken as (
  select pg_notify('qw_ready', l.queue || ' ' || l.priority)
    from (select distinct queue, priority from task) l
   where exists (select 1 from qw.idle i where i.queue in (l.queue, '*')
                     and i.worker::text is distinct from current_setting('qw.worker', true))
)
select id, (select count(*) from woken) from task

-- name: enqueue_one
-- Like enqueue, for one task: without the arrays it takes two thirds of the time. No row: the id exists.
with task as (
  insert into qw.task (
    id, queue, type, payload, priority, max_retries, timeout, backoff, run_id, step, parent_id, headers)
  values (
    %(id)s, %(queue)s, %(type)s, %(payload)s::jsonb, %(priority)s::smallint, %(max_retries)s::smallint,
    %(timeout)s::interval, %(backoff)s::jsonb, %(run_id)s::uuid, %(step)s::text, %(parent_id)s::uuid,
    %(headers)s::jsonb)
  on conflict (id) do nothing
  returning id, queue, priority, coalesce(%(run_at)s::timestamptz, statement_timestamp() + %(delay)s::interval) as due
), ready as (
  insert into qw.ready (task_id, queue, priority) select id, queue, priority from task
   where (due > statement_timestamp()) is not true
), scheduled as (
  insert into qw.scheduled (task_id, run_at, queue, priority, reason)
  select id, due, queue, priority, 'time' from task where due > statement_timestamp()
), events as (
  insert into qw.outbox (type, task_id) select w.type, t.id from task t, qw.wanted w where w.type = 'task.created'
), counts as (
  insert into qw.tally (queue, live) select queue, 1 from task
)
select id, case when exists (select 1 from qw.idle i where i.queue in (%(queue)s, '*')
                               and i.worker::text is distinct from current_setting('qw.worker', true))
             then pg_notify('qw_ready', queue || ' ' || priority) end
  from task

-- name: enqueue_keyed
-- Store one task with a unique or idempotency key. Returns its id, or the id of the task that has the key.
select qw.enqueue_one(
  %(type)s::text, %(payload)s::jsonb, %(queue)s::text, %(priority)s::integer, %(run_at)s::timestamptz,
  %(delay)s::interval, %(max_retries)s::integer, %(timeout)s::interval, %(unique_key)s::text,
  %(idempotency_key)s::text, %(on_conflict)s::text, %(id)s::uuid, %(headers)s::jsonb, %(backoff)s::jsonb,
  %(parent_id)s::uuid)

-- name: enqueue_keyed_many
-- Store tasks with a unique or idempotency key; arrays as for enqueue. Returns the new ids. A task is left out if its
-- id exists, or if one of its keys is taken, even by an earlier task of this call; `release_keys` then releases the
-- keys that it took.
with given as materialized (
  select *, row_number() over (partition by unique_key order by place) as nth_unique,
         row_number() over (partition by idempotency_key order by place) as nth_idempotency
    from unnest(
      %(id)s::uuid[], %(queue)s::text[], %(type)s::text[], %(payload)s::jsonb[], %(priority)s::smallint[],
      %(run_at)s::timestamptz[], %(delay)s::interval[], %(max_retries)s::smallint[], %(timeout)s::interval[],
      %(backoff)s::jsonb[], %(run_id)s::uuid[], %(step)s::text[], %(parent_id)s::uuid[], %(headers)s::jsonb[],
      %(unique_key)s::text[], %(idempotency_key)s::text[])
    with ordinality as g (
      id, queue, type, payload, priority, run_at, delay, max_retries, timeout,
      backoff, run_id, step, parent_id, headers, unique_key, idempotency_key, place)
), fresh as materialized (
  select * from given g
   where (unique_key is null or nth_unique = 1) and (idempotency_key is null or nth_idempotency = 1)
     and not exists (select 1 from qw.task t where t.id = g.id)
), idempotent as materialized (
  insert into qw.idempotency (key, task_id, digest)
  select idempotency_key, id, md5(type || ' ' || payload::text) from fresh where idempotency_key is not null
   order by idempotency_key
  on conflict do nothing
  returning task_id
), uniquely as materialized (
  insert into qw.unique_key (key, task_id)
  select unique_key, id from fresh
   where unique_key is not null and (idempotency_key is null or id in (select task_id from idempotent))
   order by unique_key
  on conflict do nothing
  returning task_id
), task as materialized (
  insert into qw.task (
    id, queue, type, payload, priority, max_retries, timeout, backoff, unique_key, run_id, step, parent_id, headers)
  select id, queue, type, payload, priority, max_retries, timeout, backoff, unique_key, run_id, step, parent_id, headers
    from fresh
   where (idempotency_key is null or id in (select task_id from idempotent))
     and (unique_key is null or id in (select task_id from uniquely))
   order by place
  on conflict (id) do nothing
  returning id, queue, priority
), ready as (
  insert into qw.ready (task_id, queue, priority)
  select id, queue, priority from given
   where id in (select id from task) and (coalesce(run_at, statement_timestamp() + delay) > statement_timestamp()) is not true
   order by place
), scheduled as (
  insert into qw.scheduled (task_id, run_at, queue, priority, reason)
  select id, coalesce(run_at, statement_timestamp() + delay), queue, priority, 'time' from given
   where id in (select id from task) and coalesce(run_at, statement_timestamp() + delay) > statement_timestamp()
), events as (
  insert into qw.outbox (type, task_id) select w.type, t.id from task t, qw.wanted w where w.type = 'task.created'
), counts as (
  insert into qw.tally (queue, live) select queue, count(*) from task group by queue
), woken as (
  select pg_notify('qw_ready', l.queue || ' ' || l.priority)
    from (select distinct queue, priority from task) l
   where exists (select 1 from qw.idle i where i.queue in (l.queue, '*'))
)
select id, (select count(*) from woken) from task

-- name: release_keys
-- Release the idempotency keys of tasks that enqueue_keyed_many left out, in the same transaction.
delete from qw.idempotency i using unnest(%(ids)s::uuid[], %(idempotency_keys)s::text[]) as g (id, key)
 where i.key = g.key and i.task_id = g.id and not exists (select 1 from qw.task t where t.id = g.id)

-- name: existing
-- The existing ones among the tasks, and whether each is the same: of the same type, queue and payload.
select t.id, t.type = g.type and t.queue = g.queue and t.payload = g.payload, t.type, t.queue
  from unnest(%(ids)s::uuid[], %(types)s::text[], %(queues)s::text[], %(payloads)s::jsonb[]) as g (id, type, queue, payload)
 cross join lateral (select * from qw.task k where k.id = g.id offset 0) t

-- name: enqueue_checked
-- For a role that may enqueue but not write tables. Returns, in order, the id of each task or of the task that has its
-- key, and whether it is new.
select id, is_new from qw.enqueue_many(%(tasks)s::jsonb)

-- name: copy_tasks
-- The fastest way to insert many new ids. A duplicate fails the whole COPY, which is then repeated with enqueue.
copy qw.task (id, queue, type, payload, priority, max_retries, timeout, backoff, headers) from stdin (format binary)

-- name: copy_ready
copy qw.ready (task_id, queue, priority) from stdin (format binary)

-- name: copy_scheduled
copy qw.scheduled (task_id, run_at, queue, priority, reason) from stdin (format binary)

-- name: count_enqueued
-- Add the counts and events of a COPY, and notify waiting workers.
with given as materialized (
  select * from unnest(%(queues)s::text[], %(priorities)s::smallint[], %(counts)s::bigint[]) as g (queue, priority, n)
), counts as (
  insert into qw.tally (queue, live) select queue, sum(n) from given group by queue
), events as (
  insert into qw.outbox (type, task_id)
  select w.type, i from qw.wanted w, unnest(%(ids)s::uuid[]) i where w.type = 'task.created'
)
select pg_notify('qw_ready', queue || ' ' || priority) from given
 where exists (select 1 from qw.idle i where i.queue in (given.queue, '*'))

-- name: get
-- Unordered. Ids that do not exist have no row.
select t.id, t.type, t.queue, t.priority, t.payload, coalesce(t.max_retries, y.max_retries, 3) as max_retries,
       coalesce(t.timeout, y.timeout, case when y.name is null then interval '5 minutes' end) as timeout, t.unique_key, t.run_id, t.step, t.parent_id,
       t.headers, t.created_at, t.status, t.attempt, t.retries, t.crashes, t.run_at, t.reason, t.worker,
       t.started_at, t.finished_at, t.result, t.error, t.error_kind
  from qw.tasks t left join qw.type y on y.name = t.type
 where t.id = any(%(ids)s::uuid[])

-- name: get_own
-- Like get, for a role that may not read: only tasks that it enqueued itself.
select t.id, t.type, t.queue, t.priority, t.payload, coalesce(t.max_retries, 3) as max_retries,
       coalesce(t.timeout, case when t.type <> 'command' then interval '5 minutes' end) as timeout, t.unique_key, t.run_id, t.step, t.parent_id,
       t.headers, t.created_at, t.status, t.attempt, t.retries, t.crashes, t.run_at, t.reason, t.worker,
       t.started_at, t.finished_at, t.result, t.error, t.error_kind
  from qw.own_tasks(%(ids)s::uuid[]) t

-- name: attempts
-- The history of one task, oldest first.
select task_id, fence, attempt, outcome, worker, started_at, ended_at, error, result, error_kind
  from qw.attempt where task_id = %(id)s order by ended_at, fence

-- name: attempts_of
-- The newest *limit* attempts of several tasks, oldest first.
select task_id, fence, attempt, outcome, worker, started_at, ended_at, error, result from (
  select * from qw.attempt where task_id = any(%(ids)s::uuid[]) order by ended_at desc, fence desc limit %(limit)s::integer
) newest order by ended_at, fence

-- name: find_any
-- Newest ids first, below *before*. Lists find ids in one narrow table or index, then get them: 1 ms, not 1.5 s, at 1
-- M.
select t.id from qw.task t
 where t.id < %(before)s::uuid
   and (%(type)s::text is null or t.type = %(type)s::text)
   and (%(queue)s::text is null or t.queue = %(queue)s::text)
   and (%(run_id)s::uuid is null or t.run_id = %(run_id)s::uuid)
   and (%(customer)s::text is null
        or (t.payload ? 'customerId' and left(t.payload ->> 'customerId', 128) = left(%(customer)s::text, 128)
            and t.payload ->> 'customerId' = %(customer)s::text))
   and (%(since)s::timestamptz is null or t.created_at >= %(since)s::timestamptz)
   and (%(until)s::timestamptz is null or t.created_at < %(until)s::timestamptz)
   and (%(error)s::text is null or exists (
     select 1 from qw.finished f where f.task_id = t.id and strpos(f.error, %(error)s::text) > 0))
 order by t.id desc
 limit %(limit)s

-- name: find_waiting
-- Ids of matching pending tasks (or retrying ones, if requested), newest first.
select w.task_id
  from (select r.task_id, r.retries from qw.ready r
        union all
        select s.task_id, s.retries from qw.scheduled s
        union all
        select h.task_id, h.retries from qw.held h) w,
       lateral (  -- "offset 0" forces a look-up per row: a merge join reads all newer tasks
         select 1 from qw.task t
          where t.id = w.task_id
            and (%(type)s::text is null or t.type = %(type)s::text)
            and (%(queue)s::text is null or t.queue = %(queue)s::text)
            and (%(run_id)s::uuid is null or t.run_id = %(run_id)s::uuid)
            and (%(since)s::timestamptz is null or t.created_at >= %(since)s::timestamptz)
            and (%(until)s::timestamptz is null or t.created_at < %(until)s::timestamptz)
         offset 0) fits
 where (w.retries > 0) = %(retrying)s::boolean
   and w.task_id < %(before)s::uuid
   and (%(error)s::text is null or exists (
     select 1 from qw.attempt a where a.task_id = w.task_id and strpos(a.error, %(error)s::text) > 0))
 order by w.task_id desc
 limit %(limit)s

-- name: find_suspended
-- Ids of tasks whose handler waits, newest first.
select s.task_id
  from qw.scheduled s,
       lateral (  -- as in find_waiting
         select 1 from qw.task t
          where t.id = s.task_id
            and (%(type)s::text is null or t.type = %(type)s::text)
            and (%(queue)s::text is null or t.queue = %(queue)s::text)
            and (%(run_id)s::uuid is null or t.run_id = %(run_id)s::uuid)
            and (%(since)s::timestamptz is null or t.created_at >= %(since)s::timestamptz)
            and (%(until)s::timestamptz is null or t.created_at < %(until)s::timestamptz)
         offset 0) fits
 where s.fence is not null
   and s.task_id < %(before)s::uuid
   and (%(error)s::text is null or exists (
     select 1 from qw.attempt a where a.task_id = s.task_id and strpos(a.error, %(error)s::text) > 0))
 order by s.task_id desc
 limit %(limit)s

-- name: find_running
select r.task_id
  from qw.running r,
       lateral (  -- "offset 0" forces a look-up per row: a merge join reads all newer tasks
         select 1 from qw.task t
          where t.id = r.task_id
            and (%(type)s::text is null or t.type = %(type)s::text)
            and (%(queue)s::text is null or t.queue = %(queue)s::text)
            and (%(run_id)s::uuid is null or t.run_id = %(run_id)s::uuid)
            and (%(since)s::timestamptz is null or t.created_at >= %(since)s::timestamptz)
            and (%(until)s::timestamptz is null or t.created_at < %(until)s::timestamptz)
         offset 0) fits
 where r.task_id < %(before)s::uuid
 order by r.task_id desc
 limit %(limit)s

-- name: find_finished
select f.task_id
  from qw.finished f,
       lateral (  -- "offset 0" forces a look-up per row: a merge join reads all newer tasks
         select 1 from qw.task t
          where t.id = f.task_id
            and (%(type)s::text is null or t.type = %(type)s::text)
            and (%(queue)s::text is null or t.queue = %(queue)s::text)
            and (%(run_id)s::uuid is null or t.run_id = %(run_id)s::uuid)
            and (%(since)s::timestamptz is null or t.created_at >= %(since)s::timestamptz)
            and (%(until)s::timestamptz is null or t.created_at < %(until)s::timestamptz)
         offset 0) fits
 where f.status = %(status)s
   and f.task_id < %(before)s::uuid
   and (%(error)s::text is null or strpos(f.error, %(error)s::text) > 0)
 order by f.task_id desc
 limit %(limit)s

-- name: resolve
-- Up to three ids each of tasks and runs that begin with the given hexadecimal digits, which are passed as a range.
(select id, false as is_run from qw.task where id between %(low)s::uuid and %(high)s::uuid order by id limit 3)
union all
(select id, true from qw.run where id between %(low)s::uuid and %(high)s::uuid order by id limit 3)

-- name: neighbours
-- The tasks and runs next to the given ids in id order.
select n.id
  from unnest(%(ids)s::uuid[]) w(id),
       lateral ((select t.id from qw.task t where t.id < w.id order by t.id desc limit 1)
                union all
                (select t.id from qw.task t where t.id > w.id order by t.id limit 1)
                union all
                (select r.id from qw.run r where r.id < w.id order by r.id desc limit 1)
                union all
                (select r.id from qw.run r where r.id > w.id order by r.id limit 1)) n

-- name: cancel
select task_id, outcome from qw.cancel_tasks(%(ids)s::uuid[], %(running)s::boolean, %(reason)s::text)

-- name: settle_cancels
-- Cancel waiting tasks with an open cancel request; workers are notified of running ones.
select count(*) from qw.settle_cancels(array(select task_id from qw.cancel_request order by task_id limit 1000))

-- name: retry
-- See qw.retry_tasks. For key_taken, holder is the task that holds the unique key.
select r.task_id, r.outcome,
       case when r.outcome = 'key_taken' then (
         select u.task_id from qw.task t join qw.unique_key u on u.key = t.unique_key where t.id = r.task_id) end
  from qw.retry_tasks(%(ids)s::uuid[]) r

-- name: edit
-- Change a waiting task; null changes nothing. See qw.edit_task for the answers.
select qw.edit_task(%(id)s::uuid, %(queue)s::text, %(priority)s::integer, %(payload)s::jsonb, %(run_at)s::timestamptz,
                    %(front)s::boolean)

-- name: erase
select id, outcome from qw.forget(%(ids)s::uuid[])

-- name: remove_logs
select qw.remove_logs(%(ids)s::uuid[], %(most)s::integer)

-- name: remove
select id, outcome from qw.remove(%(ids)s::uuid[])

-- name: with_payload
-- Reads the next *limit* tasks after an id. Returns those with the given text at the given path of their payload, and
-- the last id read. No index supports this: it reads all tasks, a page at a time.
select (array_agg(id order by id desc))[1] as last,
       coalesce(array_agg(id order by id) filter (where is_match), '{}') as ids
  from (
    select id, payload #>> %(path)s::text[] = %(value)s::text as is_match from qw.task
     where id > %(after)s::uuid order by id limit %(limit)s) t

-- name: final_statuses
-- The status of those of the ids that are final.
select task_id, status from qw.finished where task_id = any(%(ids)s::uuid[])

-- name: stats
-- Totals by queue. processing and retrying are counted in narrow tables; the other counts come from the tally.
with live as (
  select queue, sum(live)::bigint as live, sum(completed)::bigint as completed, sum(failed)::bigint as failed,
         sum(cancelled)::bigint as cancelled, sum(live + completed + failed + cancelled + pruned)::bigint as enqueued
    from qw.tally group by queue
), running as (
  select queue, count(*) as n from qw.running group by queue
), retrying as (
  select queue, count(*) as n from (
    (select queue from qw.ready where retries > 0 limit 10000)
    union all (select queue from qw.scheduled where retries > 0 limit 10000)
    union all (select queue from qw.held where retries > 0 limit 10000)) w group by queue
)
select l.queue,
       greatest(l.live - coalesce(r.n, 0) - coalesce(w.n, 0), 0) as pending,
       coalesce(r.n, 0) as processing, coalesce(w.n, 0) as retrying, l.completed, l.failed, l.cancelled,
       l.enqueued
  from live l left join running r on r.queue = l.queue left join retrying w on w.queue = l.queue
 order by l.queue

-- name: write_logs
insert into qw.task_log (task_id, attempt, level, message, raw)
select * from unnest(
  %(ids)s::uuid[], %(attempts)s::integer[], %(levels)s::text[], %(messages)s::text[], %(raws)s::bytea[])

-- name: read_logs
-- Lines of one task after a line id, oldest first.
select id, attempt, at, level, message, raw from qw.task_log
 where task_id = %(id)s and id > %(after)s order by id limit %(limit)s

-- name: read_own_logs
select id, attempt, at, level, message, raw from qw.own_logs(%(id)s::uuid, %(after)s::bigint, %(limit)s::integer)

-- name: write_progress
with kept as (
  insert into qw.progress (task_id, fraction, message) values (%(id)s, %(fraction)s, %(message)s)
  on conflict (task_id) do update set fraction = excluded.fraction, message = excluded.message, at = statement_timestamp()
  returning task_id, fraction, message
)
insert into qw.outbox (type, task_id, data)
select w.type, k.task_id, jsonb_build_object('fraction', k.fraction, 'message', k.message)
  from kept k, qw.wanted w where w.type = 'task.progressed'

-- name: read_progress
select fraction, message, at from qw.progress where task_id = %(id)s

-- name: old_completed
-- Up to *limit* completed tasks after an id, in id order, that may be past their retention, and whether each is. Ids
-- contain times, and a task is made before it finishes: younger ids are not read. Ids that are no UUIDv7 may sort
-- anywhere, so ids ahead of the clock are read too. Tasks of a run are deleted with the run, unless it no longer
-- exists.
select f.task_id,
       f.finished_at < statement_timestamp() - %(age)s::interval
         and not exists (
           select 1 from qw.task t join qw.run r on r.id = t.run_id where t.id = f.task_id and t.run_id is not null)
  from (
    (select * from qw.finished
      where status = 'completed' and task_id > %(after)s::uuid
        and task_id < qw.first_id(statement_timestamp() - %(age)s::interval + interval '10 minutes')
      order by task_id limit %(limit)s)
    union all
    (select * from qw.finished
      where status = 'completed'
        and task_id > greatest(%(after)s::uuid, qw.first_id(statement_timestamp() + interval '10 minutes'))
      order by task_id limit %(limit)s)) f
 order by f.task_id limit %(limit)s

-- name: old_failed
-- Like old_completed, for failed and cancelled tasks. They have their own index, so that completed tasks, which may be
-- kept longer, are not read.
select f.task_id,
       f.finished_at < statement_timestamp() - %(age)s::interval
         and not exists (
           select 1 from qw.task t join qw.run r on r.id = t.run_id where t.id = f.task_id and t.run_id is not null)
  from qw.finished f
 where f.status <> 'completed' and f.status = %(status)s and f.task_id > %(after)s::uuid
 order by f.task_id limit %(limit)s

-- name: prune_history
-- Delete up to *limit* rows of each kind of history of finished tasks: log lines, attempts, checkpoints, signals. A
-- task may have a hundred thousand, so they are deleted before it. Returns the largest number deleted of one kind.
with logs as (
  delete from qw.task_log where id = any(array(
    select l.id from unnest(%(ids)s::uuid[]) i, lateral (select id from qw.task_log where task_id = i) l
     limit %(limit)s)) returning 1
), attempts as (
  delete from qw.attempt where ctid = any(array(
    select a.ctid from unnest(%(ids)s::uuid[]) i, lateral (select ctid from qw.attempt where task_id = i) a
     limit %(limit)s)) returning 1
), checkpoints as (
  delete from qw.checkpoint where ctid = any(array(
    select c.ctid from unnest(%(ids)s::uuid[]) i, lateral (select ctid from qw.checkpoint where task_id = i) c
     limit %(limit)s)) returning 1
), signals as (
  delete from qw.task_signal where id = any(array(
    select s.id from unnest(%(ids)s::uuid[]) i, lateral (select id from qw.task_signal where task_id = i) s
     limit %(limit)s)) returning 1
)
select greatest((select count(*) from logs), (select count(*) from attempts), (select count(*) from checkpoints),
                (select count(*) from signals))

-- name: prune
-- Delete those of the tasks that are still finished (not retried meanwhile) and not locked by another pruner.
with old as materialized (
  select f.task_id, t.queue, f.status from qw.finished f join qw.task t on t.id = f.task_id
   where f.task_id = any(%(ids)s::uuid[]) for update of f skip locked
), finished as (
  delete from qw.finished where task_id = any(array(select task_id from old))
), progress as (
  delete from qw.progress where task_id = any(array(select task_id from old))
), tasks as (
  delete from qw.task where id = any(array(select task_id from old))
), counts as (
  insert into qw.tally (queue, completed, failed, cancelled, pruned)
  select queue, -count(*) filter (where status = 'completed'), -count(*) filter (where status = 'failed'),
         -count(*) filter (where status = 'cancelled'), count(*) from old group by queue
)
select count(*) from old

-- name: prune_keys
with old as (
  delete from qw.idempotency where key = any(array(
    select key from qw.idempotency where created_at < statement_timestamp() - %(age)s::interval
     limit %(limit)s for update skip locked)) returning 1
)
select count(*) from old

-- name: fold_tally
-- Replace the rows of the tally by their sums. Rows added concurrently are kept.
with gone as (
  delete from qw.tally where ctid = any(array(select ctid from qw.tally limit 50000 for update skip locked)) returning *
), sums as (
  insert into qw.tally (queue, live, completed, failed, cancelled, pruned)
  select queue, sum(live), sum(completed), sum(failed), sum(cancelled), sum(pruned) from gone group by queue
)
select count(*) from gone

-- name: requeue
-- Enqueue copies of finished tasks under new ids, in id order; the old tasks are kept. One row per id: requeued and the
-- id of the copy, key_taken and its holder, missing, unfinished, or was_requeued. An idempotency key for each end of a
-- task makes repetition safe.
select i.id,
       case when t.id is null then 'missing' when f.task_id is null then 'unfinished'
            when k.key is not null then 'was_requeued' when u.key is not null then 'key_taken' else 'requeued' end,
       case when f.task_id is null or k.key is not null then null
            when u.key is not null then u.task_id
            else qw.enqueue_one(
              t.type, t.payload, t.queue, t.priority::integer, null, null, t.max_retries::integer, t.timeout,
              t.unique_key, 'requeue ' || f.task_id || ' ' || f.fence, 'skip', null, t.headers, t.backoff, t.parent_id) end
  from unnest(%(ids)s::uuid[]) with ordinality as i (id, place)
  left join lateral (select * from qw.task t where t.id = i.id offset 0) t on true
  left join lateral (select task_id, fence from qw.finished f where f.task_id = i.id offset 0) f on true
  left join qw.idempotency k on k.key = 'requeue ' || f.task_id || ' ' || f.fence
  left join qw.unique_key u on u.key = t.unique_key
 order by i.place

-- name: compensate
-- Enqueue compensations of completed tasks, in id order. One row per id: compensating and the new task's id, or
-- missing, its status or unfinished, or was_compensated. An idempotency key for each end of a task makes repetition
-- safe. *anew*: whatever the task's status, and even if it was compensated before; once for each *key*.
select i.id,
       case when t.id is null then 'missing' when given.anew then 'compensating'
            when t.status = 'cancelled' then 'was_cancelled'
            when t.status is distinct from 'completed' then coalesce(t.status, 'unfinished')
            when k.key is not null then 'was_compensated' else 'compensating' end,
       case when t.id is not null and (given.anew or t.status = 'completed' and k.key is null) then qw.enqueue_one(
         'compensation', jsonb_strip_nulls(jsonb_build_object(
           'originalTaskId', t.id, 'originalTaskType', t.type, 'compensationAction', 'rollback',
           'reason', nullif(%(reason)s::text, ''), 'customerId', t.payload -> 'customerId')),
         t.queue, 5, null, null, null, null, null, case when given.anew then %(key)s::text else t.ending end, 'skip', null, null, null,
         t.id) end
  from (select %(anew)s::boolean as anew) given
 cross join unnest(%(ids)s::uuid[]) with ordinality as i (id, place)
  left join lateral (
    select t.id, t.type, t.queue, t.payload, f.status, 'compensate ' || f.task_id || ' ' || f.fence as ending
      from qw.task t left join qw.finished f on f.task_id = t.id where t.id = i.id offset 0) t on true
  left join qw.idempotency k on k.key = t.ending
 order by i.place

-- name: failures
-- Failures of the last day by type, among the last failed tasks; most frequent first.
select t.type, count(*)::integer as failed, max(f.finished_at) as last_at,
       (array_agg(f.error order by f.finished_at desc))[1] as last_error,
       (array_agg(f.task_id order by f.finished_at desc))[1] as last_id
  from (select task_id, finished_at, error from qw.finished where status = 'failed' order by task_id desc limit %(most)s) f
  cross join lateral (select type from qw.task where id = f.task_id offset 0) t
 where f.finished_at > statement_timestamp() - interval '1 day'
 group by t.type order by failed desc, t.type
