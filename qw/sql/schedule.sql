-- Schedules. *clock* replaces now() in tests; programs pass null.

-- name: claim
-- Lock due schedules that no other transaction holds, longest overdue first.
select id, name, cron, seconds, every, at, timezone, type, payload, queue, priority, max_retries, timeout, workflow,
       input, misfire, misfire_window, cap, overlap, jitter, start_at, end_at, description, filed_under, paused_at, mark,
       next_tick, next_at, last_id, broken, created_at, updated_at,
       coalesce(%(clock)s::timestamptz, statement_timestamp()) as read_at
  from qw.schedule
 where next_at <= coalesce(%(clock)s::timestamptz, statement_timestamp())
 order by next_at, id limit %(limit)s for update skip locked

-- name: due
-- Seconds until the next schedule is due; negative: overdue. No row: no schedule has a next tick.
select extract(epoch from next_at - coalesce(%(clock)s::timestamptz, clock_timestamp()))::float8 from qw.schedule
 where next_at is not null order by next_at, id limit 1

-- name: busy
-- Those of the tasks and runs that are not final.
select i from unnest(%(ids)s::uuid[]) i
 where exists (select 1 from qw.run r where r.id = i and r.finished_at is null)
    or exists (select 1 from qw.task t where t.id = i) and not exists (select 1 from qw.finished f where f.task_id = i)

-- name: decide
-- Store the progress of locked schedules and the number of ticks missed since. The mark never moves back.
update qw.schedule s
   set mark = greatest(s.mark, g.mark), next_tick = g.next_tick, next_at = g.next_at,
       last_id = coalesce(g.last_id, s.last_id), broken = g.broken, missed = s.missed + g.missed
  from unnest(%(ids)s::uuid[], %(marks)s::timestamptz[], %(ticks)s::timestamptz[], %(times)s::timestamptz[],
              %(lasts)s::uuid[], %(broken)s::text[], %(missed)s::bigint[])
    as g (id, mark, next_tick, next_at, last_id, broken, missed)
 where s.id = g.id

-- name: get
select id, name, cron, seconds, every, at, timezone, type, payload, queue, priority, max_retries, timeout, workflow,
       input, misfire, misfire_window, cap, overlap, jitter, start_at, end_at, description, filed_under, paused_at, mark,
       next_tick, next_at, last_id, broken, created_at, updated_at,
       coalesce(%(clock)s::timestamptz, statement_timestamp()) as read_at
  from qw.schedule where name = %(name)s::text or id = %(id)s::uuid

-- name: lock
-- Like get, locked against daemons that would fire it. Waits for a daemon that is firing it.
select id, name, cron, seconds, every, at, timezone, type, payload, queue, priority, max_retries, timeout, workflow,
       input, misfire, misfire_window, cap, overlap, jitter, start_at, end_at, description, filed_under, paused_at, mark,
       next_tick, next_at, last_id, broken, created_at, updated_at,
       coalesce(%(clock)s::timestamptz, clock_timestamp()) as read_at
  from qw.schedule where name = %(name)s::text or id = %(id)s::uuid for update

-- name: list
-- In name order, after a name.
select id, name, cron, seconds, every, at, timezone, type, payload, queue, priority, max_retries, timeout, workflow,
       input, misfire, misfire_window, cap, overlap, jitter, start_at, end_at, description, filed_under, paused_at, mark,
       next_tick, next_at, last_id, broken, created_at, updated_at,
       coalesce(%(clock)s::timestamptz, statement_timestamp()) as read_at
  from qw.schedule where name > %(after)s::text order by name limit %(limit)s

-- name: names
select name from qw.schedule order by name limit 1000

-- name: now
select coalesce(%(clock)s::timestamptz, clock_timestamp())

-- name: add
-- No row: the name or the id is taken.
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
-- Store a new definition of a locked schedule. Ticks that were due before are over: the mark is now.
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

-- name: lower_marks
-- After the database's clock was set back: move marks that are in the future back to now. Ticks that fired in that time
-- have rows and do not fire again; ticks that were skipped are decided again.
with early as materialized (
  select id, paused_at from qw.schedule where mark > statement_timestamp() + interval '1 second'
   order by id for update skip locked
), undecided as (
  delete from qw.schedule_fire f using early e
   where f.schedule_id = e.id and f.tick > statement_timestamp() and f.reason is not null
), lowered as (
  update qw.schedule s
     set mark = statement_timestamp(), next_tick = null,
         next_at = case when s.paused_at is null then statement_timestamp() end
   where s.id = any(array(select id from early))
)
select count(*) from early

-- name: pause
update qw.schedule
   set paused_at = coalesce(paused_at, statement_timestamp()), next_at = null, next_tick = null,
       updated_at = statement_timestamp()
 where id = %(id)s

-- name: fired
-- Store the task or run that a locked schedule made last.
update qw.schedule set last_id = %(last)s where id = %(id)s

-- name: remove
delete from qw.schedule where id = %(id)s

-- name: late
-- Schedules overdue by more than a given time, longest first.
select name, extract(epoch from statement_timestamp() - next_at)::float8 from qw.schedule
 where next_at < statement_timestamp() - %(by)s::interval order by next_at, id limit %(limit)s

-- name: measures
-- The first 1,000 schedules in name order; each with the completion time of the latest of its last 200 ticks whose task
-- or run completed.
select s.name, s.next_tick, s.missed, done.at
  from (select id, name, next_tick, missed from qw.schedule order by name limit 1000) s
  left join lateral (
    select c.at
      from (select tick, task_id, run_id from qw.schedule_fire where schedule_id = s.id order by tick desc limit 200) f
      cross join lateral (
        select finished_at from qw.finished where task_id = f.task_id and status = 'completed'
        union all
        select finished_at from qw.run where id = f.run_id and status = 'completed') c (at)
     order by f.tick desc limit 1) done on true
 order by s.name
