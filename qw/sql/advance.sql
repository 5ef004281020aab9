-- Statements of the advancer. Lock order: runs, then keys, then tasks; each kind in a fixed order. A transaction that
-- ends tasks first locks only runs that no other transaction holds, and waits only briefly for other locks
-- (limit_lock_waits in claim.sql).

-- name: has_messages
-- Returns a row if the inbox has a due message.
select 1 from qw.advance where at <= statement_timestamp() limit 1

-- name: lock
-- Lock runs, skipping locked ones.
select id from qw.run where id = any(%(runs)s::uuid[]) order by id for update skip locked

-- name: claim
-- Lock runs with inbox messages, skipping locked ones: runs with due timers first, then the others in id order. A run
-- may be returned twice.
--
-- The limit counts locked runs, so that a second advancer skips all runs that the first one holds. The walk costs one
-- index probe per run with messages, regardless of the number of messages per run and of future timers.
with recursive walk (run_id) as (
  (select a.run_id from qw.advance a where a.at = '-infinity' order by a.run_id limit 1)
  union all
  select (select a.run_id from qw.advance a where a.at = '-infinity' and a.run_id > walk.run_id order by a.run_id limit 1)
    from walk where walk.run_id is not null
), due as (
  (select distinct a.run_id from qw.advance a where a.at > '-infinity' and a.at <= statement_timestamp())
  union all
  select run_id from walk where run_id is not null
)
select r.id from due, lateral (select q.id from qw.run q where q.id = due.run_id for update skip locked) r
 limit %(limit)s

-- name: take_inbox
-- Delete and return the messages of locked runs. A separate statement, so that it sees what was committed before the
-- lock.
delete from qw.advance where run_id = any(%(runs)s::uuid[]) and at <= statement_timestamp()
returning run_id, ask, nullif(at, '-infinity') as due

-- name: clear_lost
-- Delete messages of runs that no longer exist.
delete from qw.advance a where not exists (select 1 from qw.run r where r.id = a.run_id)

-- name: set_keys
update qw.run r set key = g.key
  from unnest(%(ids)s::uuid[], %(keys)s::text[]) as g (id, key)
 where r.id = g.id

-- name: lock_keys
-- Locked while a run with a key is started, queued or ended, so that the count of its runs is stable.
select count(pg_advisory_xact_lock(h)) from (
  select distinct hashtextextended(k, 7177) as h from unnest(%(keys)s::text[]) k order by h offset 0) s

-- name: count_ahead
-- Count the runs with the same key that are running or earlier in the queue. A separate statement after the lock, so
-- that it sees all of them.
select r.id, (
    select count(*) from qw.run o
     where o.key = r.key and o.finished_at is null and o.id <> r.id and (o.status = 'running' or o.id < r.id))
  from qw.run r where r.id = any(%(ids)s::uuid[])

-- name: cancel_oldest
-- Request cancellation of the oldest open runs with the same key as this run.
insert into qw.advance (run_id, ask)
select o.id, 'cancel' from qw.run r join qw.run o on o.key = r.key and o.finished_at is null and o.id <> r.id
 where r.id = %(id)s order by o.id limit %(count)s

-- name: ask_to_stop
-- Store the reasons for cancelling tasks; a single call of qw.cancel_tasks follows and keeps them.
insert into qw.cancel_request (task_id, running, reason)
select id, true, reason from unnest(%(ids)s::uuid[], %(reasons)s::text[]) as g (id, reason) order by id
on conflict do nothing

-- name: signals
-- Signals of locked runs that no step has consumed yet, oldest first.
select run_id, id, name, payload, sent_by, sent_at from qw.signal
 where run_id = any(%(runs)s::uuid[]) and step is null and name not like 'run:%%' order by id

-- name: take_signals
update qw.signal s set step = g.step
  from unnest(%(ids)s::bigint[], %(steps)s::text[]) as g (id, step) where s.id = g.id

-- name: put_steps
-- Insert or update steps that started, changed or ended. Ended steps are not changed.
insert into qw.run_step as s (
  run_id, step, type, status, task_id, child_id, due_at, items, rounds, result, error, error_kind, cancel_asked,
  finished, finished_at)
select run_id, step, type, status, task_id, child_id, due_at, items, rounds, result, error, error_kind, cancel_asked, finished,
       case when finished is not null then coalesce(ended_at, statement_timestamp()) end
  from unnest(%(runs)s::uuid[], %(steps)s::text[], %(types)s::text[], %(statuses)s::text[], %(tasks)s::uuid[],
              %(children)s::uuid[], %(dues)s::timestamptz[], %(items)s::integer[], %(rounds)s::integer[], %(results)s::jsonb[],
              %(errors)s::text[], %(kinds)s::text[], %(cancels)s::boolean[], %(finished)s::integer[], %(times)s::timestamptz[])
    as g (run_id, step, type, status, task_id, child_id, due_at, items, rounds, result, error, error_kind, cancel_asked,
          finished, ended_at)
on conflict (run_id, step) do update
   set status = excluded.status, result = excluded.result, error = excluded.error,
       error_kind = excluded.error_kind, child_id = excluded.child_id, due_at = excluded.due_at, rounds = excluded.rounds,
       cancel_asked = excluded.cancel_asked, finished = excluded.finished, finished_at = excluded.finished_at
 where s.status = 'running'

-- name: put_items
-- Insert the items of a foreach that starts. After a repair, completed items with an unchanged value stay completed.
with given as (
  insert into qw.run_item as i (run_id, step, item, value)
  select %(run)s::uuid, %(step)s::text, place - 1, value
    from jsonb_array_elements(%(items)s::jsonb) with ordinality as g (value, place)
  on conflict (run_id, step, item) do update
     set value = excluded.value,
         status = case when i.status = 'completed' and i.value = excluded.value then i.status else 'pending' end
  returning status
), surplus as (
  delete from qw.run_item where run_id = %(run)s::uuid and step = %(step)s::text
     and item >= jsonb_array_length(%(items)s::jsonb)
)
update qw.run_step set started = n, completed = n
  from (select count(*) as n from given where status = 'completed') kept
 where run_id = %(run)s::uuid and step = %(step)s::text

-- name: next_items
-- The first items of a foreach that have not started.
select item, value from qw.run_item
 where run_id = %(run)s and step = %(step)s and status = 'pending' order by item limit %(count)s

-- name: start_items
-- Store the task or run that each item started; an item with neither failed before it started one. All items exist: an
-- insert that always conflicts finds each by its key, while an update would compare every item with every parameter row
-- (1.1 s for 500 of 10,000).
with begun as (
  insert into qw.run_item as i (run_id, step, item, value, task_id, child_id, status)
  select %(run)s::uuid, %(step)s::text, item, 'null', task_id, child_id,
         case when coalesce(task_id, child_id) is null then 'failed' else 'running' end
    from unnest(%(items)s::integer[], %(tasks)s::uuid[], %(children)s::uuid[]) as g (item, task_id, child_id)
  on conflict (run_id, step, item) do update
     set task_id = excluded.task_id, child_id = excluded.child_id, status = excluded.status
  returning i.status
)
update qw.run_step set started = started + n, failed = failed + bad, error = coalesce(error, %(error)s::text),
       error_kind = coalesce(error_kind, case when bad > 0 then 'expression' end)
  from (select count(*) as n, count(*) filter (where status = 'failed') as bad from begun) b
 where run_id = %(run)s::uuid and step = %(step)s::text

-- name: settle_items
-- Record which running items of these runs have a final task or run. An item of a compensation ends when its run, which
-- is being undone, is final for the second time (failed). Returns the counts of the steps that changed.
with ended_tasks as (
  update qw.run_item i set status = f.status
    from qw.finished f
   where i.run_id = any(%(runs)s::uuid[]) and i.status = 'running' and f.task_id = i.task_id
  returning i.run_id, i.step, i.item, i.status, f.error, coalesce(f.error_kind, f.status) as error_kind
), ended_runs as (
  update qw.run_item i
     set status = case when i.step not like 'compensate:%%' then c.status
                       when c.detail = 'compensation_failed' then 'failed' else 'completed' end
    from qw.run c
   where i.run_id = any(%(runs)s::uuid[]) and i.status = 'running' and c.id = i.child_id and c.finished_at is not null
     and (i.step not like 'compensate:%%' or c.status = 'failed')
  returning i.run_id, i.step, i.item, i.status, coalesce(c.error, c.status) as error,
            case c.status when 'failed' then coalesce(c.error_kind, 'workflow') else c.status end as error_kind
), ended as (
  select * from ended_tasks union all select * from ended_runs
), counts as (
  select run_id, step, count(*) filter (where status = 'completed') as good,
         count(*) filter (where status <> 'completed') as bad,
         (array_agg(format('item %%s: %%s', item, error) order by item) filter (where status <> 'completed'))[1] as error,
         (array_agg(error_kind order by item) filter (where status <> 'completed'))[1] as error_kind
    from ended group by run_id, step
)
update qw.run_step s
   set completed = s.completed + c.good, failed = s.failed + c.bad, error = coalesce(s.error, c.error),
       error_kind = coalesce(s.error_kind, c.error_kind)
  from counts c where s.run_id = c.run_id and s.step = c.step
returning s.run_id, s.step, s.completed, s.failed, s.error, s.error_kind

-- name: running_items
select item, task_id, child_id from qw.run_item
 where run_id = %(run)s and step = %(step)s and status = 'running' order by task_id, child_id

-- name: keep_rounds
-- Store the runs that the rounds of a repeat have started as items of its step, so that undoing the step undoes them
-- all.
insert into qw.run_item (run_id, step, item, value, status, child_id)
select s.run_id, s.step, (select coalesce(max(i.item) + 1, 0) from qw.run_item i where i.run_id = s.run_id and i.step = s.step),
       'null', 'completed', s.child_id
  from qw.run_step s where s.run_id = %(run)s and s.step = any(%(steps)s::text[]) and s.child_id is not null

-- name: repeat_tasks
-- Make completed tasks ready again for the next rounds of their steps; their outcomes are kept in the history.
with final as (
  delete from qw.finished f where f.task_id = any(array(
    select task_id from qw.finished where task_id = any(%(ids)s::uuid[]) and status = 'completed' order by 1 for update))
  returning *
), history as (
  insert into qw.attempt (task_id, fence, outcome, attempt, worker, started_at, ended_at, result)
  select task_id, fence, 'repeated', attempt, worker, started_at, finished_at, result from final
), counts as (
  insert into qw.tally (queue, live, completed)
  select t.queue, count(*), -count(*) from final f join qw.task t on t.id = f.task_id group by t.queue
), ready as (
  insert into qw.ready as r (task_id, queue, priority, attempt)
  select t.id, t.queue, t.priority, f.attempt from final f join qw.task t on t.id = f.task_id order by t.id
  returning r.queue, r.priority
)
select queue, priority from ready

-- name: put_undone
-- Store the runs to be undone as items of the compensating step, the last ended first. These are the runs started by
-- the items of a foreach or the rounds of a repeat that have not undone their effects.
with undone as (
  insert into qw.run_item (run_id, step, item, value)
  select %(run)s::uuid, %(step)s::text, row_number() over (order by c.finished_at desc, c.id desc) - 1, to_jsonb(c.id)
    from (select child_id from qw.run_item where run_id = %(run)s::uuid and step = %(of)s::text
          union
          select child_id from qw.run_step where run_id = %(run)s::uuid and step = %(of)s::text) i
    join qw.run c on c.id = i.child_id
   where c.status in ('completed', 'cancelled')
  returning item
)
update qw.run_step set items = (select count(*) from undone) where run_id = %(run)s::uuid and step = %(step)s::text

-- name: gather_items
-- End a foreach with the results of its items in order, null for an item without one. Results are measured one at a
-- time before they are combined; more than *most* bytes fail the step.
with size as materialized (
  select coalesce(sum(octet_length(coalesce(f.result, c.output)::text)), 0) as bytes
    from qw.run_item i left join qw.finished f on f.task_id = i.task_id left join qw.run c on c.id = i.child_id
   where i.run_id = %(run)s::uuid and i.step = %(step)s::text and i.status = 'completed'
)
update qw.run_step s
   set status = case when bytes > %(most)s::bigint then 'failed' else %(status)s::text end,
       error = case when bytes > %(most)s::bigint
         then format('the results of its %%s items have %%s bytes; at most %%s are kept', s.items, bytes, %(most)s::bigint)
         else %(error)s::text end,
       error_kind = case when bytes > %(most)s::bigint then 'invalid' else error_kind end,
       result = case when bytes <= %(most)s::bigint then (
         select coalesce(jsonb_agg(coalesce(f.result, c.output) order by i.item), '[]')
           from qw.run_item i left join qw.finished f on f.task_id = i.task_id and i.status = 'completed'
           left join qw.run c on c.id = i.child_id and i.status = 'completed'
          where i.run_id = s.run_id and i.step = s.step) end,
       finished = %(finished)s::integer, finished_at = statement_timestamp()
  from size
 where s.run_id = %(run)s::uuid and s.step = %(step)s::text and s.status = 'running'

-- name: startable
-- The workflow that a step of this run starts: the newest version, or the last version if the workflow was deleted
-- after this run or an ancestor of it started. No row: the workflow does not exist or is not active.
with recursive above as (
  select id, parent_id, created_at from qw.run where id = %(parent)s
  union all
  select r.id, r.parent_id, r.created_at from above a join qw.run r on r.id = a.parent_id
), named as (
  select id, version, is_active from qw.workflow where name = %(workflow)s
  union all
  select x.workflow_id, x.version, true from qw.removed_workflow x
   where x.name = %(workflow)s and not exists (select 1 from qw.workflow w where w.name = x.name)
     and x.removed_at > (select min(created_at) from above)
)
select n.id, n.version, v.document from named n join qw.workflow_version v on v.id = n.version where n.is_active

-- name: start_children
-- Start runs. A run with a deadline also gets its timer.
with started as (
  insert into qw.run (id, workflow, workflow_id, version, input, parent_id, depth, deadline)
  select g.id, %(workflow)s, %(workflow_id)s::uuid, %(version)s::bigint, g.input, %(parent)s::uuid, %(depth)s::smallint,
         statement_timestamp() + %(timeout)s::interval
    from unnest(%(ids)s::uuid[], %(inputs)s::jsonb[]) as g (id, input)
  returning id, deadline
)
insert into qw.advance (run_id, at) select id, deadline from started where deadline is not null

-- name: send_messages
-- Send messages to runs, each with its time; another advancer may hold the locks of these runs.
insert into qw.advance (run_id, ask, at)
select run_id, ask, coalesce(at, '-infinity')
  from unnest(%(runs)s::uuid[], %(asks)s::text[], %(times)s::timestamptz[]) as g (run_id, ask, at)

-- name: update_runs
-- Store the new states of runs. A final run notifies its parent run and deletes its timers. A run that leaves pending
-- notifies the next run queued for its key, because a slot may be free.
with given as (
  select * from unnest(%(ids)s::uuid[], %(statuses)s::text[], %(details)s::text[], %(errors)s::text[],
                       %(kinds)s::text[], %(outputs)s::jsonb[], %(cancels)s::boolean[], %(deadlines)s::timestamptz[])
    as g (id, status, detail, error, error_kind, output, cancel_asked, deadline)
), before as materialized (
  select r.id, r.status, r.parent_id, r.key from qw.run r where r.id = any(%(ids)s::uuid[])
), events as (
  insert into qw.outbox (type, run_id, error)
  select w.type, g.id, g.error from given g join before b on b.id = g.id
    join qw.wanted w on w.type = 'workflow.run.' || case when g.status = 'running' then 'started' else g.status end
   where b.status <> g.status
), over as materialized (
  select b.id, b.parent_id from given g join before b on b.id = g.id
   where g.status in ('completed', 'failed', 'cancelled')
), parents as (
  insert into qw.advance (run_id) select parent_id from over where parent_id is not null
), timers as (
  delete from qw.advance where run_id = any(array(select id from over)) and at > statement_timestamp()
), next as (
  insert into qw.advance (run_id)
  select q.id from given g join before b on b.id = g.id,
         lateral (select r.id from qw.run r
                   where r.key = b.key and r.finished_at is null and r.status = 'pending'
                     and r.id <> all(array(select id from given where status <> 'pending'))
                   order by r.id limit 1) q
   where b.key is not null and g.status <> 'pending' and g.status <> b.status
)
update qw.run r
   set status = g.status, detail = g.detail, error = g.error, error_kind = g.error_kind, output = g.output,
       cancel_asked = g.cancel_asked, deadline = g.deadline,
       started_at = case when g.status = 'pending' then r.started_at else coalesce(r.started_at, statement_timestamp()) end,
       finished_at = case when g.status in ('completed', 'failed', 'cancelled') then statement_timestamp() end
  from given g
 where r.id = g.id
