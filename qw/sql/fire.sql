-- Outcomes of schedule ticks.

-- name: record
-- Store the outcomes of ticks. Returns the ticks that had no outcome before; the others are not changed.
with kept as (
  insert into qw.schedule_fire (schedule_id, tick, cause, reason, detail, until, blocker, task_id, run_id)
  select schedule_id, tick, %(cause)s, reason, detail, until, blocker, task_id, run_id
    from unnest(%(ids)s::uuid[], %(ticks)s::timestamptz[], %(reasons)s::text[], %(details)s::text[],
                %(untils)s::timestamptz[], %(blockers)s::uuid[], %(tasks)s::uuid[], %(runs)s::uuid[])
      as g (schedule_id, tick, reason, detail, until, blocker, task_id, run_id)
  on conflict do nothing
  returning schedule_id, tick, cause, reason, task_id, run_id
), events as (
  -- late: ticks that fired a minute or more after their time
  insert into qw.outbox (type, data)
  select w.type, jsonb_strip_nulls(jsonb_build_object(
      'scheduleId', k.schedule_id, 'schedule', (select s.name from qw.schedule s where s.id = k.schedule_id),
      'tick', k.tick, 'cause', k.cause, 'reason', k.reason, 'taskId', k.task_id, 'runId', k.run_id))
    from kept k, qw.wanted w
   where w.type = case when k.reason is null then 'schedule.fired' else 'schedule.skipped' end
      or w.type = 'schedule.late' and k.reason is null and k.tick < statement_timestamp() - interval '1 minute'
)
select schedule_id, tick from kept

-- name: record_backfill
-- Like record, for past ticks: a skipped tick now fires.
insert into qw.schedule_fire as f (schedule_id, tick, cause, task_id, run_id)
select schedule_id, tick, 'backfill', task_id, run_id
  from unnest(%(ids)s::uuid[], %(ticks)s::timestamptz[], %(tasks)s::uuid[], %(runs)s::uuid[])
    as g (schedule_id, tick, task_id, run_id)
on conflict (schedule_id, tick) do update
   set cause = 'backfill', reason = null, detail = null, until = null, blocker = null, task_id = excluded.task_id,
       run_id = excluded.run_id, decided_at = statement_timestamp()
 where f.reason is not null
returning schedule_id, tick

-- name: fired_among
select tick from qw.schedule_fire where schedule_id = %(id)s and tick = any(%(ticks)s::timestamptz[]) and reason is null

-- name: has_made
-- No row: the schedule did not make this task or run.
select 1 from qw.schedule_fire where schedule_id = %(id)s and (task_id = %(made)s::uuid or run_id = %(made)s::uuid)

-- name: refuse
-- Turn a fire into a skip, because its task or run could not be created.
update qw.schedule_fire set reason = 'refused', detail = %(detail)s, task_id = null, run_id = null
 where schedule_id = %(id)s and tick = %(tick)s

-- name: of_schedule
-- Outcomes of a schedule's ticks before a tick, latest first.
select tick, cause, reason, detail, until, blocker, task_id, run_id, decided_at
  from qw.schedule_fire where schedule_id = %(id)s and tick < %(before)s::timestamptz
 order by tick desc limit %(limit)s

-- name: prune
-- Delete outcomes of ticks. They are older than any backfill reaches, so that no backfill can repeat them.
with old as (
  delete from qw.schedule_fire where ctid = any(array(
    select ctid from qw.schedule_fire where decided_at < statement_timestamp() - %(age)s::interval
     limit %(limit)s for update skip locked)) returning 1
)
select count(*) from old
