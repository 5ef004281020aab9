-- Workflows and their runs. Runs are locked before tasks, in id order.

-- name: keep_workflow
-- Store a definition; the same document again makes no new version. Returns its id and version.
with workflow as (
  insert into qw.workflow (name, version) values (%(name)s, 0)
  on conflict (name) do update set updated_at = now() returning id
), version as (
  insert into qw.workflow_version (workflow_id, digest, document)
  select id, %(digest)s, %(document)s::jsonb from workflow
  on conflict (workflow_id, digest) do update set digest = excluded.digest
  returning id, workflow_id
)
select workflow_id, id from version

-- name: activate_version
update qw.workflow set version = %(version)s where id = %(id)s

-- name: workflows
select w.id, w.name, w.is_active, v.document, w.created_at, w.updated_at
  from qw.workflow w join qw.workflow_version v on v.id = w.version
 where %(name)s::text is null or w.name = %(name)s::text
 order by w.name

-- name: start
-- No row: the id exists already, or there is no active workflow of that name. The caller advances it at once.
with new as (
  insert into qw.run (id, workflow, workflow_id, version, input)
  select %(id)s, w.name, w.id, w.version, %(input)s::jsonb from qw.workflow w
   where w.name = %(workflow)s and w.is_active
  on conflict (id) do nothing
  returning id
)
select id from new

-- name: get
select id, workflow, workflow_id, version, status, detail, input, output, error, cancel_asked, created_at, started_at,
       finished_at
  from qw.run where id = any(%(ids)s::uuid[])

-- name: find
-- Ids of runs, the newest first.
select id from qw.run
 where id < %(before)s::uuid
   and (%(workflow)s::text is null or workflow = %(workflow)s::text)
   and (%(status)s::text is null or status = %(status)s::text)
 order by id desc limit %(limit)s

-- name: steps
-- The steps of runs in the order they began, with how their tasks stand.
select s.run_id, s.step, s.type, s.status, s.task_id, coalesce(s.error, f.error) as error, s.started_at, s.finished_at,
       s.finished, f.status as task_status, f.result, f.finished_at as task_finished_at, f.fence as task_fence,
       exists (select 1 from qw.cancel_request c where c.task_id = s.task_id) as cancel_asked
  from qw.run_step s left join qw.finished f on f.task_id = s.task_id
 where s.run_id = any(%(runs)s::uuid[])
 order by s.run_id, s.started_at, s.step

-- name: claim
-- Lock runs with news that nobody else is advancing, in id order.
select r.id from qw.run r
 where r.id = any(array(select distinct a.run_id from qw.advance a limit %(limit)s))
 order by r.id for update skip locked

-- name: inbox
-- The news of locked runs. A second statement, so that it sees what was committed while it waited for the lock.
select id from qw.advance where run_id = any(%(runs)s::uuid[])

-- name: documents
select id, document from qw.workflow_version where id = any(%(versions)s::bigint[])

-- name: begin_steps
insert into qw.run_step (run_id, step, type, status, task_id, error, finished_at, finished)
select run_id, step, type, status, task_id, error, case when finished is not null then now() end, finished
  from unnest(%(runs)s::uuid[], %(steps)s::text[], %(types)s::text[], %(statuses)s::text[], %(tasks)s::uuid[],
              %(errors)s::text[], %(finished)s::integer[])
    as g (run_id, step, type, status, task_id, error, finished)
on conflict do nothing

-- name: end_steps
update qw.run_step s set status = g.status, error = g.error, finished = g.finished, finished_at = g.finished_at
  from unnest(%(runs)s::uuid[], %(steps)s::text[], %(statuses)s::text[], %(errors)s::text[], %(finished)s::integer[],
              %(times)s::timestamptz[]) as g (run_id, step, status, error, finished, finished_at)
 where s.run_id = g.run_id and s.step = g.step and s.status = 'running'

-- name: update_runs
with given as (
  select * from unnest(%(ids)s::uuid[], %(statuses)s::text[], %(details)s::text[], %(errors)s::text[],
                       %(outputs)s::jsonb[]) as g (id, status, detail, error, output)
), before as materialized (
  select r.id, r.status from qw.run r where r.id = any(%(ids)s::uuid[])
), events as (
  insert into qw.outbox (type, run_id, error)
  select w.type, g.id, g.error from given g join before b on b.id = g.id
    join qw.wanted w on w.type = 'workflow.run.' || case when g.status = 'running' then 'started' else g.status end
   where b.status <> g.status
)
update qw.run r
   set status = g.status, detail = g.detail, error = g.error, output = g.output,
       started_at = coalesce(r.started_at, now()),
       finished_at = case when g.status in ('completed', 'failed', 'cancelled') then now() end
  from given g
 where r.id = g.id

-- name: clear_inbox
delete from qw.advance where id = any(%(ids)s::bigint[])

-- name: clear_lost
-- News of runs that are gone.
delete from qw.advance a where not exists (select 1 from qw.run r where r.id = a.run_id)

-- name: cancel
-- No row: the run does not exist or is over.
with asked as (
  update qw.run set cancel_asked = true where id = %(id)s and finished_at is null returning id
), news as (
  insert into qw.advance (run_id) select id from asked
)
select id from asked

-- name: completed_of_run
-- Completed tasks of a run that are no compensations, the last completed first.
select t.id as task_id, t.type, t.payload, f.result, f.finished_at
  from qw.task t join qw.finished f on f.task_id = t.id
 where t.run_id = %(run_id)s and f.status = 'completed' and t.parent_id is null and t.type <> 'compensation'
   and not exists (  -- its step's own compensation has undone it
     select 1 from qw.task u join qw.finished g on g.task_id = u.id
      where u.run_id = t.run_id and u.parent_id = t.id and g.status = 'completed')
 order by f.finished_at desc, t.id desc

-- name: completed_task
select t.id as task_id, t.type, t.payload, f.result, f.finished_at
  from qw.task t join qw.finished f on f.task_id = t.id
 where t.id = %(id)s and f.status = 'completed'

-- name: prune
-- Delete runs past their retention with all their tasks.
with old as materialized (
  select id from qw.run
   where finished_at < now() - %(completed)s::interval
     and (status = 'completed' or finished_at < now() - %(unhappy)s::interval)
   limit %(limit)s for update skip locked
), task as materialized (
  select t.id, t.queue, f.status from qw.task t join qw.finished f on f.task_id = t.id
   where t.run_id = any(array(select id from old))
), finished as (
  delete from qw.finished where task_id = any(array(select id from task))
), attempts as (
  delete from qw.attempt where task_id = any(array(select id from task))
), logs as (
  delete from qw.task_log where task_id = any(array(select id from task))
), progress as (
  delete from qw.progress where task_id = any(array(select id from task))
), checkpoints as (
  delete from qw.checkpoint where task_id = any(array(select id from task))
), tasks as (
  delete from qw.task where id = any(array(select id from task))
), steps as (
  delete from qw.run_step where run_id = any(array(select id from old))
), runs as (
  delete from qw.run where id = any(array(select id from old))
), counts as (
  insert into qw.tally (queue, completed, failed, cancelled)
  select queue, -count(*) filter (where status = 'completed'), -count(*) filter (where status = 'failed'),
         -count(*) filter (where status = 'cancelled') from task group by queue
)
select count(*) from old
