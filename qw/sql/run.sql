-- Workflows and their runs. Runs are locked before tasks, in id order.

-- name: save_workflow
-- Store a definition; an unchanged document makes no new version. Returns its id and version.
with workflow as (
  insert into qw.workflow (name, version) values (%(name)s, 0)
  on conflict (name) do update set updated_at = statement_timestamp() returning id
), version as (
  insert into qw.workflow_version (workflow_id, digest, document)
  select id, %(digest)s, %(document)s::jsonb from workflow
  on conflict (workflow_id, digest) do update set created_at = excluded.created_at
  returning id, workflow_id
)
select workflow_id, id from version

-- name: offer_workflow
-- Like save_workflow, but returns no row if this version existed before.
with workflow as (
  insert into qw.workflow (name, version) values (%(name)s, 0)
  on conflict (name) do update set name = excluded.name returning id
)
insert into qw.workflow_version (workflow_id, digest, document)
select id, %(digest)s, %(document)s::jsonb from workflow
on conflict (workflow_id, digest) do nothing
returning workflow_id, id

-- name: activate_version
update qw.workflow set version = %(version)s where id = %(id)s

-- name: workflows
select w.id, w.name, w.is_active, v.document, w.created_at, w.updated_at
  from qw.workflow w join qw.workflow_version v on v.id = w.version
 where %(name)s::text is null or w.name = %(name)s::text
 order by w.name

-- name: start
-- No row: the id exists, or there is no active workflow with that name. The caller advances the run at once.
with new as (
  insert into qw.run (id, workflow, workflow_id, version, input)
  select %(id)s, w.name, w.id, w.version, %(input)s::jsonb from qw.workflow w
   where w.name = %(workflow)s and w.is_active
  on conflict (id) do nothing
  returning id
)
select id from new

-- name: start_checked
-- For a role that may start runs but not write tables. Raises QW001, QW002 and QW003.
select qw.start_workflow(%(workflow)s::text, %(input)s::jsonb, %(id)s::uuid, %(key)s::text, %(run_at)s::timestamptz)

-- name: take_key
-- Store an idempotency key if it is new. Returns the id that has the key, and whether its request was the same.
insert into qw.idempotency as i (key, task_id, digest)
values (%(key)s::text, %(id)s::uuid, md5(%(what)s::text || ' ' || %(given)s::jsonb::text))
on conflict (key) do update set key = excluded.key
returning i.task_id, i.digest = md5(%(what)s::text || ' ' || %(given)s::jsonb::text)

-- name: get
select r.id, r.workflow, r.workflow_id, r.version, v.digest, r.status, r.detail, r.input, r.output, r.error,
       r.error_kind, r.cancel_asked, r.key, r.deadline, r.parent_id, r.depth, r.created_at, r.started_at, r.finished_at,
       statement_timestamp() as read_at
  from qw.run r join qw.workflow_version v on v.id = r.version
 where r.id = any(%(ids)s::uuid[])

-- name: find
-- Ids of runs, newest first.
select id from qw.run
 where id < %(before)s::uuid
   and (%(workflow)s::text is null or workflow = %(workflow)s::text)
   and (%(status)s::text is null or status = %(status)s::text)
 order by id desc limit %(limit)s

-- name: workflow_names
select id, workflow from qw.run where id = any(%(ids)s::uuid[])

-- name: steps
-- The steps of runs in start order, with the state of their tasks or of the runs that they started. The outcome of a
-- step that started a run is known once that run is final; of a compensation that undoes a run, once that run is final
-- for the second time, which makes it failed.
select s.run_id, s.step, s.status, s.type, s.task_id, s.child_id, s.started_at, s.finished_at, coalesce(s.finished, 0),
       s.due_at, s.cancel_asked, coalesce(s.rounds, 0),
       case when s.status <> 'completed' then coalesce(s.error, f.error, case when c.status = 'failed' then c.error end)
         end as error,
       case when s.status <> 'completed' then coalesce(
         s.error_kind, f.error_kind, case when c.status = 'failed' then coalesce(c.error_kind, 'workflow') end)
         end as error_kind,
       coalesce(s.result, f.result, c.output) as result,
       coalesce(f.status, case
         when c.finished_at is null then null
         when s.step not like 'compensate:%%' then c.status
         when c.status <> 'failed' then null
         when c.detail = 'compensation_failed' then 'failed' else 'completed' end) as task_status,
       coalesce(f.finished_at, c.finished_at) as task_finished_at, f.fence as task_fence,
       s.items, s.started, s.completed, s.failed
  from qw.run_step s
  left join qw.finished f on f.task_id = s.task_id
  left join qw.run c on c.id = s.child_id
 where s.run_id = any(%(runs)s::uuid[])
 order by s.run_id, s.started_at, s.step

-- name: notable_items
-- The first failed or cancelled items of a foreach, then running ones.
select i.item, i.status, i.task_id, i.child_id, coalesce(f.error, c.error) as error
  from qw.run_item i left join qw.finished f on f.task_id = i.task_id left join qw.run c on c.id = i.child_id
 where i.run_id = %(run)s and i.step = %(step)s and i.status in ('failed', 'cancelled', 'running')
 order by i.status = 'running', i.item limit %(limit)s

-- name: documents
select id, document from qw.workflow_version where id = any(%(versions)s::bigint[])

-- name: cancel
-- No row: the run does not exist or is final.
with asked as (
  update qw.run set cancel_asked = true where id = %(id)s and finished_at is null returning id
), news as (
  insert into qw.advance (run_id) select id from asked
), told as (
  insert into qw.signal (run_id, name, sent_by) select id, 'run:cancel', %(by)s::text from asked
)
select id from asked

-- name: signal
-- Raises QW001 if the run does not exist, QW002 if it is final.
select qw.put_signal(%(run)s::uuid, %(name)s::text, %(payload)s::jsonb, %(sent_by)s::text)

-- name: record_decision
-- Store a decision about a run: approve, reject, retry. qw.signal does not accept its name.
with told as (
  insert into qw.signal (run_id, name, payload, sent_by)
  values (%(run)s, %(name)s, %(payload)s::jsonb, %(sent_by)s::text) returning run_id
)
insert into qw.advance (run_id) select run_id from told

-- name: signals
-- Signals and decisions of a run, oldest first, with the step that consumed each.
select id, name, payload, sent_by, sent_at, step from qw.signal where run_id = %(run)s order by id

-- name: completed_of_run
-- Completed tasks of a run without compensations, latest completed first.
select t.id as task_id, t.type, t.payload, f.result, f.finished_at
  from qw.task t join qw.finished f on f.task_id = t.id
 where t.run_id = %(run_id)s and f.status = 'completed' and t.parent_id is null and t.type <> 'compensation'
   and not exists (  -- undone by its step's own compensation
     select 1 from qw.task u join qw.finished g on g.task_id = u.id
      where u.run_id = t.run_id and u.parent_id = t.id and g.status = 'completed')
   and not exists (  -- the same for an item of a foreach, which is undone as a whole
     select 1 from qw.run_step u
      where u.run_id = t.run_id and t.step like '%%[%%' and u.step = 'compensate:' || split_part(t.step, '[', 1)
        and u.status = 'completed' and u.started_at >= t.created_at)
   and not exists (  -- undone by hand
     select 1 from qw.signal g
      where g.run_id = t.run_id and g.name = 'run:compensation-done' and g.sent_at >= f.finished_at
        and g.payload ->> 'of' in (split_part(t.step, '[', 1), '*'))
   and not exists (  -- undone by a task of type compensation from before a retry of the run
     select 1 from qw.task u join qw.checkpoint c on c.task_id = u.id and c.name = 'undo:' || t.id
      where u.run_id = t.run_id and u.type = 'compensation' and c.value ->> 'action' = 'undone'
        and not exists (select 1 from qw.run_step s where s.task_id = u.id))
 order by f.finished_at desc, t.id desc

-- name: undone_tasks
-- Tasks of a run that its tasks of type compensation have undone.
select substr(c.name, 6)::uuid from qw.task u join qw.checkpoint c on c.task_id = u.id and c.name like 'undo:%%'
 where u.run_id = %(run)s and u.type = 'compensation' and c.value ->> 'action' = 'undone'

-- name: completed_task
select t.id as task_id, t.type, t.payload, f.result, f.finished_at
  from qw.task t join qw.finished f on f.task_id = t.id
 where t.id = %(id)s and f.status = 'completed'

-- name: with_input
-- Like with_payload in task.sql, for runs and their input.
select (array_agg(id order by id desc))[1] as last,
       coalesce(array_agg(id order by id) filter (where is_match), '{}') as ids
  from (
    select id, input #>> %(path)s::text[] = %(value)s::text as is_match from qw.run
     where id > %(after)s::uuid order by id limit %(limit)s) r

-- name: past_retention
-- Runs past the retention of their status. A child run is kept as long as its parent, which may still read its output
-- or be retried.
select r.id from qw.run r
 where r.finished_at < statement_timestamp()
       - case when r.status = 'completed' then %(completed)s::interval else %(failed)s::interval end
   and r.finished_at < statement_timestamp() - least(%(completed)s::interval, %(failed)s::interval)
   and not exists (select 1 from qw.run p where p.id = r.parent_id)
 limit %(limit)s

-- name: finished_tasks
-- Finished tasks of these runs.
select t.id from qw.task t where t.run_id = any(%(ids)s::uuid[])
   and exists (select 1 from qw.finished f where f.task_id = t.id) limit %(limit)s

-- name: prune
-- Delete those of the runs that are still final and not locked by another pruner. Their tasks are deleted next; tasks
-- that are not finished yet, or that a crash left behind, are deleted by their own retention.
with old as materialized (
  select r.id from qw.run r where r.id = any(%(ids)s::uuid[]) and r.finished_at is not null for update skip locked
), steps as (
  delete from qw.run_step where run_id = any(array(select id from old))
), items as (
  delete from qw.run_item where run_id = any(array(select id from old))
), signals as (
  delete from qw.signal where run_id = any(array(select id from old))
), runs as (
  delete from qw.run where id = any(array(select id from old))
)
select id from old

-- name: lock
-- Lock a run against advancers and return its version. No row: the run does not exist.
select version from qw.run where id = %(id)s for update

-- name: save_version
-- Store a definition without making it the newest. Returns its version.
insert into qw.workflow_version (workflow_id, digest, document)
select workflow_id, %(digest)s, %(document)s::jsonb from qw.run where id = %(run)s
on conflict (workflow_id, digest) do update set created_at = excluded.created_at
returning id

-- name: home
-- Distinguishes the run files of this database from those of others: its name, and the time its schema was made.
select current_database()::text as name, extract(epoch from min(m.applied_at))::bigint as made from qw.migration m

-- name: existing
select r.id from qw.run r where r.id = any(%(ids)s::uuid[])

-- name: prune_versions
-- Delete unreferenced versions, except the newest of each workflow, by which a daemon with older files sees that its
-- definition is not new. A version that is applied again meanwhile is no longer old.
with old as (
  select v.id
    from (select id, created_at, row_number() over (partition by workflow_id order by id desc) as place
            from qw.workflow_version) v
   where v.place > %(keep)s and v.created_at < statement_timestamp() - %(age)s::interval
     and not exists (select 1 from qw.run r where r.version = v.id)
     and not exists (select 1 from qw.workflow w where w.version = v.id)
     and not exists (select 1 from qw.removed_workflow w where w.version = v.id)
   limit %(limit)s
), gone as (
  delete from qw.workflow_version where id = any(array(
    select id from qw.workflow_version
     where id = any(array(select id from old)) and created_at < statement_timestamp() - %(age)s::interval
       for update skip locked)) returning 1
)
select count(*) from gone

-- name: newest_version
-- No row: the run's workflow was deleted.
select w.version from qw.run r join qw.workflow w on w.name = r.workflow where r.id = %(run)s and w.version > 0

-- name: forget_steps
-- Delete steps that will be repeated (*whole*: those without an item to keep), the items that were *undone*, and
-- decisions that no step has consumed. Results of tasks are kept with the tasks.
with steps as (
  delete from qw.run_step where run_id = %(run)s::uuid and step = any(%(steps)s::text[])
), items as (
  delete from qw.run_item where run_id = %(run)s::uuid and step = any(%(whole)s::text[])
), undone as (
  update qw.run_item set status = 'pending'
   where run_id = %(run)s::uuid and task_id = any(%(undone)s::uuid[]) and step <> all(%(whole)s::text[])
)
delete from qw.signal where run_id = %(run)s::uuid and step is null and name like 'approval:%%'

-- name: reopen
-- Restart a final run, in the queue for its key.
update qw.run
   set status = 'pending', detail = null, error = null, error_kind = null, output = null, cancel_asked = false,
       deadline = null, key = null, version = %(version)s, finished_at = null
 where id = %(run)s

-- name: pin
update qw.run set version = %(version)s where id = %(run)s

-- name: resume_undoing
-- Continue the compensation of a run whose compensation failed, and of the runs above it that could not undo it.
select qw.resume_undoing(%(run)s)

-- name: resume_children
-- Continue steps or items with the runs that they started, which are retried. A step or item that failed before it had
-- one is started again.
with items as (
  update qw.run_item set status = case when child_id is null then 'pending' else 'running' end
   where run_id = %(run)s::uuid and step = any(%(steps)s::text[]) and status in ('failed', 'cancelled')
  returning step, child_id
), counts as (
  select step, count(*) as bad, count(*) filter (where child_id is null) as anew from items group by step
)
update qw.run_step s
   set status = 'running', error = null, error_kind = null, cancel_asked = false, finished = null, finished_at = null,
       started = s.started - coalesce((select anew from counts c where c.step = s.step), 0),
       failed = s.failed - coalesce((select bad from counts c where c.step = s.step), 0)
 where s.run_id = %(run)s::uuid and s.step = any(%(steps)s::text[])

-- name: failed_children
-- The final runs, not completed, that these steps or their items started, with their steps.
select s.step, s.child_id from qw.run_step s join qw.run c on c.id = s.child_id
 where s.run_id = %(run)s::uuid and s.step = any(%(steps)s::text[]) and c.status in ('failed', 'cancelled')
union all
select i.step, i.child_id from qw.run_item i join qw.run c on c.id = i.child_id
 where i.run_id = %(run)s::uuid and i.step = any(%(steps)s::text[]) and i.status in ('failed', 'cancelled')
   and c.status in ('failed', 'cancelled')

-- name: done_by_hand
-- Mark a failed compensation as completed; its items are not changed.
update qw.run_step set status = 'completed', error = null, error_kind = null, result = %(result)s::jsonb
 where run_id = %(run)s and step = %(step)s and status in ('failed', 'cancelled')
