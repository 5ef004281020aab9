-- Queues: pause, resume, limits. Their tasks are counted by task.stats.

-- name: paused
-- In name order.
select name, paused_at, paused_by from qw.queue where paused_at is not null order by name

-- name: pause
-- A queue that is already paused keeps its time and who paused it.
with events as (
  insert into qw.outbox (type, data)
  select w.type, jsonb_build_object('queue', %(name)s::text, 'by', %(by)s::text) from qw.wanted w
   where w.type = 'queue.paused'
     and not exists (select 1 from qw.queue q where q.name = %(name)s::text and q.paused_at is not null)
)
insert into qw.queue (name, paused_at, paused_by) values (%(name)s, statement_timestamp(), %(by)s)
on conflict (name) do update set paused_at = coalesce(qw.queue.paused_at, excluded.paused_at),
                                 paused_by = coalesce(qw.queue.paused_by, excluded.paused_by)

-- name: resume
-- No row: the queue was not paused.
with resumed as (
  update qw.queue set paused_at = null, paused_by = null where name = %(name)s and paused_at is not null returning name
), events as (
  insert into qw.outbox (type, data)
  select w.type, jsonb_build_object('queue', r.name) from resumed r, qw.wanted w where w.type = 'queue.resumed'
)
select name from resumed

-- name: wake
-- Notify workers that wait for tasks of this queue.
select qw.wake(l.queue, l.priority) from qw.lane l where l.queue = %(name)s

-- name: limits
-- Limited queues with their limits, in name order.
select name, concurrency, rate, rate_period, key, per_key, key_rate, key_rate_period
  from qw.queue where is_limited order by name

-- name: set_limits
select qw.set_limits(%(name)s::text, %(concurrency)s::integer, %(rate)s::integer, %(rate_period)s::interval, %(key)s::text,
                     %(per_key)s::integer, %(key_rate)s::integer, %(key_rate_period)s::interval)

-- name: hold
select qw.hold(%(name)s::text, %(limit)s::integer)

-- name: release
select qw.release(%(name)s::text, %(limit)s::integer)

-- name: admit
select moved, priorities, next_place, more, seconds, has_held from qw.admit(%(name)s::text, %(limit)s::integer, %(place)s::text)

-- name: held
-- Queues that are limited, or that have held tasks without a limit; and whether each has held tasks.
with recursive line (queue) as (
  (select queue from qw.held order by queue limit 1)
  union all
  select next.queue from line,
    lateral (select h.queue from qw.held h where h.queue > line.queue order by h.queue limit 1) next
)
select q.name, true as is_limited, exists (select 1 from qw.held h where h.queue = q.name) as has_held
  from qw.queue q where q.is_limited
union all
select l.queue, false, true from line l where not exists (select 1 from qw.queue q where q.name = l.queue and q.is_limited)

-- name: prune_rates
-- Delete buckets that are full again.
with old as (
  delete from qw.rate where ctid = any(array(
    select ctid from qw.rate where full_at < statement_timestamp() limit %(limit)s for update skip locked)) returning 1
)
select count(*) from old

-- name: clamp_rates
-- No bucket takes longer than its period to fill: a later time is from before the clock was set back.
update qw.rate r set full_at = statement_timestamp() + case when r.is_of_key then q.key_rate_period else q.rate_period end
  from qw.queue q
 where q.name = r.queue
   and r.full_at > statement_timestamp() + case when r.is_of_key then q.key_rate_period else q.rate_period end
