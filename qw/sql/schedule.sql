-- Schedules and what became of their ticks. *clock* stands in for now() in tests; programs pass null.

-- name: claim
-- Lock schedules that are due and that nobody else has, the longest due first. The last column is the time.
select id, name, cron, seconds, every, at, timezone, type, payload, queue, priority, max_retries, timeout, workflow,
       input, misfire, misfire_window, cap, overlap, jitter, start_at, end_at, description, filed_under, paused_at, mark,
       next_tick, next_at, last_id, broken, created_at, updated_at, coalesce(%(clock)s::timestamptz, now())
  from qw.schedule
 where next_at <= coalesce(%(clock)s::timestamptz, now())
 order by next_at, id limit %(limit)s for update skip locked

-- name: due
-- Seconds until the next schedule is due; negative: overdue. No row: none will ever be.
select extract(epoch from next_at - clock_timestamp())::float8 from qw.schedule
 where next_at is not null order by next_at, id limit 1

-- name: busy
-- Those of the tasks and runs that are not final.
select i from unnest(%(ids)s::uuid[]) i
 where exists (select 1 from qw.run r where r.id = i and r.finished_at is null)
    or exists (select 1 from qw.task t where t.id = i) and not exists (select 1 from qw.finished f where f.task_id = i)

-- name: decide
-- Store where locked schedules stand now. The mark never goes back.
update qw.schedule s
   set mark = greatest(s.mark, g.mark), next_tick = g.next_tick, next_at = g.next_at,
       last_id = coalesce(g.last_id, s.last_id), broken = g.broken
  from unnest(%(ids)s::uuid[], %(marks)s::timestamptz[], %(ticks)s::timestamptz[], %(times)s::timestamptz[],
              %(lasts)s::uuid[], %(broken)s::text[]) as g (id, mark, next_tick, next_at, last_id, broken)
 where s.id = g.id

-- name: record
-- What became of ticks. Returns those that were not decided before; the others are left as they are.
with kept as (
  insert into qw.schedule_fire (schedule_id, tick, cause, reason, detail, until, blocker, task_id, run_id)
  select schedule_id, tick, %(cause)s, reason, detail, until, blocker, task_id, run_id
    from unnest(%(ids)s::uuid[], %(ticks)s::timestamptz[], %(reasons)s::text[], %(details)s::text[],
                %(untils)s::timestamptz[], %(blockers)s::uuid[], %(tasks)s::uuid[], %(runs)s::uuid[])
      as g (schedule_id, tick, reason, detail, until, blocker, task_id, run_id)
  on conflict do nothing
  returning schedule_id, tick, cause, reason, task_id, run_id
), events as (
  -- late: a tick that fired a minute after its time, or more
  insert into qw.outbox (type, data)
  select w.type, jsonb_strip_nulls(jsonb_build_object(
      'scheduleId', k.schedule_id, 'schedule', (select s.name from qw.schedule s where s.id = k.schedule_id),
      'tick', k.tick, 'cause', k.cause, 'reason', k.reason, 'taskId', k.task_id, 'runId', k.run_id))
    from kept k, qw.wanted w
   where w.type = case when k.reason is null then 'schedule.fired' else 'schedule.skipped' end
      or w.type = 'schedule.late' and k.reason is null and k.tick < now() - interval '1 minute'
)
select schedule_id, tick from kept

-- name: record_backfill
-- The same for ticks of the past, but a tick that was skipped fires after all.
insert into qw.schedule_fire as f (schedule_id, tick, cause, task_id, run_id)
select schedule_id, tick, 'backfill', task_id, run_id
  from unnest(%(ids)s::uuid[], %(ticks)s::timestamptz[], %(tasks)s::uuid[], %(runs)s::uuid[])
    as g (schedule_id, tick, task_id, run_id)
on conflict (schedule_id, tick) do update
   set cause = 'backfill', reason = null, detail = null, until = null, blocker = null, task_id = excluded.task_id,
       run_id = excluded.run_id, decided_at = now()
 where f.reason is not null
returning schedule_id, tick

-- name: fired_among
select tick from qw.schedule_fire where schedule_id = %(id)s and tick = any(%(ticks)s::timestamptz[]) and reason is null

-- name: has_made
-- No row: the schedule did not make this task or run.
select 1 from qw.schedule_fire where schedule_id = %(id)s and (task_id = %(made)s::uuid or run_id = %(made)s::uuid)

-- name: refuse
-- A fire that could not make what it should becomes a skip.
update qw.schedule_fire set reason = 'refused', detail = %(detail)s, task_id = null, run_id = null
 where schedule_id = %(id)s and tick = %(tick)s

-- name: get
select id, name, cron, seconds, every, at, timezone, type, payload, queue, priority, max_retries, timeout, workflow,
       input, misfire, misfire_window, cap, overlap, jitter, start_at, end_at, description, filed_under, paused_at, mark,
       next_tick, next_at, last_id, broken, created_at, updated_at, coalesce(%(clock)s::timestamptz, now())
  from qw.schedule where name = %(name)s::text or id = %(id)s::uuid

-- name: lock
-- The same, locked against daemons that would fire it. Waits for one that does.
select id, name, cron, seconds, every, at, timezone, type, payload, queue, priority, max_retries, timeout, workflow,
       input, misfire, misfire_window, cap, overlap, jitter, start_at, end_at, description, filed_under, paused_at, mark,
       next_tick, next_at, last_id, broken, created_at, updated_at, coalesce(%(clock)s::timestamptz, clock_timestamp())
  from qw.schedule where name = %(name)s::text or id = %(id)s::uuid for update

-- name: list
-- In name order, after a name.
select id, name, cron, seconds, every, at, timezone, type, payload, queue, priority, max_retries, timeout, workflow,
       input, misfire, misfire_window, cap, overlap, jitter, start_at, end_at, description, filed_under, paused_at, mark,
       next_tick, next_at, last_id, broken, created_at, updated_at, coalesce(%(clock)s::timestamptz, now())
  from qw.schedule where name > %(after)s::text order by name limit %(limit)s

-- name: names
select name from qw.schedule order by name limit 1000

-- name: now
select coalesce(%(clock)s::timestamptz, clock_timestamp())

-- name: add
-- No row: the name is taken, or the id.
insert into qw.schedule (
  id, name, cron, seconds, every, at, timezone, type, payload, queue, priority, max_retries, timeout, workflow, input,
  misfire, misfire_window, cap, overlap, jitter, start_at, end_at, description, filed_under, paused_at, mark, next_tick,
  next_at, created_at, updated_at)
values (
  %(id)s, %(name)s, %(cron)s, %(seconds)s, %(every)s, %(at)s, %(timezone)s, %(type)s, %(payload)s, %(queue)s,
  %(priority)s, %(max_retries)s, %(timeout)s, %(workflow)s, %(input)s, %(misfire)s, %(window)s, %(cap)s, %(overlap)s,
  %(jitter)s, %(start)s, %(end)s, %(description)s, %(filed_under)s, case when %(paused)s::boolean then %(now)s::timestamptz end,
  %(now)s::timestamptz, %(next_tick)s, %(next_at)s, %(now)s::timestamptz, %(now)s::timestamptz)
on conflict do nothing
returning id

-- name: change
-- Store another definition of a locked schedule. What was due before is over: the mark is now.
update qw.schedule
   set cron = %(cron)s, seconds = %(seconds)s, every = %(every)s, at = %(at)s, timezone = %(timezone)s, type = %(type)s,
       payload = %(payload)s, queue = %(queue)s, priority = %(priority)s, max_retries = %(max_retries)s,
       timeout = %(timeout)s, workflow = %(workflow)s, input = %(input)s, misfire = %(misfire)s,
       misfire_window = %(window)s, cap = %(cap)s, overlap = %(overlap)s, jitter = %(jitter)s, start_at = %(start)s,
       end_at = %(end)s, description = %(description)s, filed_under = %(filed_under)s,
       paused_at = case when %(paused)s::boolean then coalesce(paused_at, %(now)s::timestamptz) end,
       mark = greatest(mark, %(now)s::timestamptz), next_tick = %(next_tick)s, next_at = %(next_at)s, broken = null,
       updated_at = %(now)s::timestamptz
 where id = %(id)s

-- name: pause
update qw.schedule set paused_at = coalesce(paused_at, now()), next_at = null, next_tick = null, updated_at = now()
 where id = %(id)s

-- name: fired
-- A locked schedule made this last.
update qw.schedule set last_id = %(last)s where id = %(id)s

-- name: remove
delete from qw.schedule where id = %(id)s

-- name: fires
-- What became of the ticks of a schedule, the latest first, before a tick.
select tick, cause, reason, detail, until, blocker, task_id, run_id, decided_at
  from qw.schedule_fire where schedule_id = %(id)s and tick < %(before)s::timestamptz
 order by tick desc limit %(limit)s

-- name: late
-- Schedules that are overdue by more than some time, the longest first.
select name, extract(epoch from now() - next_at)::float8 from qw.schedule
 where next_at < now() - %(by)s::interval order by next_at, id limit %(limit)s

-- name: prune
-- Forget what became of ticks. Longer ago than any backfill reaches, so that none can repeat them.
with old as (
  delete from qw.schedule_fire where ctid = any(array(
    select ctid from qw.schedule_fire where decided_at < now() - %(age)s::interval limit %(limit)s)) returning 1
)
select count(*) from old
