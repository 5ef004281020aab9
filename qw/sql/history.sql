-- The history behind charts: what daemons measured (see measure.add) and the state of queues, by minute and by hour.

-- name: is_due
-- Whether nobody has sampled the queues in this minute.
select not exists (
  select 1 from qw.queue_sample
   where span = 'minute' and queue = '' and at = date_trunc('minute', statement_timestamp(), 'UTC'))

-- name: sample
-- The state of each queue, and of all of them, for this minute and hour, unless another daemon came first.
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
-- What was measured about the attempts of one queue (empty: all), summed by name, result and steps of some seconds.
select floor(extract(epoch from at) / %(step)s::integer)::bigint * %(step)s::integer, name, result, counts, total
  from qw.history
 where span = %(span)s and queue = %(queue)s and at >= %(since)s and at < %(until)s

-- name: sampled
-- The state of one queue (empty: all) at the times it was sampled, oldest first.
select extract(epoch from at)::bigint, waiting, running, oldest, enqueued
  from qw.queue_sample
 where span = %(span)s and queue = %(queue)s and at >= %(since)s and at < %(until)s
 order by at

-- name: recent
-- By queue (empty: all) and minute since 1970: how many attempts ended for good, and how many of them failed; of those
-- with any. Queue by queue along the key: 200 queues have a million rows of minutes.
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
-- By queue (empty: all): how many tasks were enqueued up to the last sample that is at least that many seconds old, and
-- how old it is.
select q.queue, s.enqueued, s.age
  from (select queue from qw.tally union select '') q
  cross join lateral (
    select enqueued, extract(epoch from statement_timestamp() - at)::float8 as age
      from qw.queue_sample
     where span = 'minute' and queue = q.queue and at >= statement_timestamp() - interval '1 hour'
       and at <= statement_timestamp() - make_interval(secs => %(seconds)s::integer)
     order by at desc limit 1) s

-- name: prune
-- Delete what is older than it is kept for, by span.
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
