-- The history behind charts: what daemons measured (see measure.add) and the state of queues, by minute and by hour.

-- name: is_due
-- Whether no daemon has sampled the queues in this minute.
select not exists (
  select 1 from qw.queue_sample
   where span = 'minute' and queue = '' and at = date_trunc('minute', statement_timestamp(), 'UTC'))

-- name: sample
-- Store the state of each queue, and of all queues, for this minute and hour, unless another daemon did so first.
with counted as (
  select queue, sum(live)::bigint as live, sum(live + completed + failed + cancelled + pruned)::bigint as enqueued
    from qw.tally group by queue
), running as (
  select queue, count(*) as n from qw.running group by queue
), state as (
  select c.queue, greatest(c.live - coalesce(r.n, 0), 0) as waiting, coalesce(r.n, 0) as running, o.seconds, c.enqueued
    from counted c left join running r on r.queue = c.queue left join qw.oldest o on o.queue = c.queue
), rows as (
  select queue, waiting, running, seconds, enqueued from state
  union all
  select '', coalesce(sum(waiting), 0), coalesce(sum(running), 0), max(seconds), coalesce(sum(enqueued), 0) from state
)
insert into qw.queue_sample (span, at, queue, waiting, running, oldest, enqueued)
select s.span, date_trunc(s.span, statement_timestamp(), 'UTC'), queue, waiting, running, seconds, enqueued
  from (values ('hour'), ('minute')) s (span), rows
 order by 1, 3
on conflict (span, queue, at) do nothing

-- name: measured
-- Measurements of the attempts of one queue ("": all), summed by name, result and time step.
select floor(extract(epoch from at) / %(step)s::integer)::bigint * %(step)s::integer, name, result, counts, total
  from qw.history
 where span = %(span)s and queue = %(queue)s and at >= %(since)s and at < %(until)s

-- name: sampled
-- The state of one queue ("": all) at its sample times, oldest first.
select extract(epoch from at)::bigint, waiting, running, oldest, enqueued
  from qw.queue_sample
 where span = %(span)s and queue = %(queue)s and at >= %(since)s and at < %(until)s
 order by at

-- name: recent
-- By queue ("": all) and minute since 1970: the number of attempts that ended a task, and failed ones among them; only
-- those with any. Walks the key queue by queue: 200 queues have a million rows of minutes.
select q.queue, (extract(epoch from h.at) / 60)::bigint, h.ended, h.failed
  from (select queue from qw.tally union select '') q
  cross join lateral (
    select at, sum(counts[1])::bigint as ended,
           coalesce(sum(counts[1]) filter (where result = 'failed'), 0)::bigint as failed
      from qw.history
     where span = 'minute' and queue = q.queue and name = 'task_attempts'
       and result in ('completed', 'failed', 'cancelled') and at >= to_timestamp(%(since)s::bigint)
     group by at) h

-- name: enqueued_before
-- By queue ("": all): the number of tasks enqueued as of the newest sample that is at least so many seconds old, and
-- the age of that sample.
select q.queue, s.enqueued, s.age
  from (select queue from qw.tally union select '') q
  cross join lateral (
    select enqueued, extract(epoch from statement_timestamp() - at)::float8 as age
      from qw.queue_sample
     where span = 'minute' and queue = q.queue and at >= statement_timestamp() - interval '1 hour'
       and at <= statement_timestamp() - make_interval(secs => %(seconds)s::integer)
     order by at desc limit 1) s

-- name: prune
-- Delete rows past their retention, which depends on the span.
with measured as (
  delete from qw.history where ctid = any(array(
    select ctid from qw.history
     where (span = 'minute' and at < statement_timestamp() - %(minutes)s::interval)
        or (span = 'hour' and at < statement_timestamp() - %(hours)s::interval)
     limit %(limit)s for update skip locked)) returning 1
), sampled as (
  delete from qw.queue_sample where ctid = any(array(
    select ctid from qw.queue_sample
     where (span = 'minute' and at < statement_timestamp() - %(minutes)s::interval)
        or (span = 'hour' and at < statement_timestamp() - %(hours)s::interval)
     limit %(limit)s for update skip locked)) returning 1
)
select greatest((select count(*) from measured), (select count(*) from sampled))
