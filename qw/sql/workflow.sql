-- Workflows by id, and their tasks: those of their runs, and those that name the workflow in their headers.

-- name: create
-- No row: the name is taken.
insert into qw.workflow (id, name, title, version, is_active)
values (%(id)s, %(name)s, %(title)s, 0, %(is_active)s)
on conflict (name) do nothing
returning id

-- name: find
-- Newest first, below *before*, each with its latest run. A workflow without a version is still being created.
select w.id, w.name, coalesce(w.title, w.name) as title, w.is_active, v.document, w.created_at, w.updated_at,
       r.status, r.error
  from qw.workflow w
  join qw.workflow_version v on v.id = w.version
  left join lateral (
    select status, error from qw.run where workflow_id = w.id order by id desc limit 1) r on true
 where (%(ids)s::uuid[] is null or w.id = any(%(ids)s::uuid[]))
   and (%(is_active)s::boolean is null or w.is_active = %(is_active)s::boolean)
   and w.id < %(before)s::uuid
 order by w.id desc limit %(limit)s

-- name: count
select count(*) from qw.workflow where version > 0 and (%(is_active)s::boolean is null or is_active = %(is_active)s::boolean)

-- name: update
-- No row: the workflow does not exist.
update qw.workflow
   set title = coalesce(%(title)s::text, title), is_active = coalesce(%(is_active)s::boolean, is_active),
       updated_at = statement_timestamp()
 where id = %(id)s
returning name

-- name: delete
-- Runs continue: they keep the version they started with, and may start the last version of this workflow. No row: the
-- workflow does not exist.
with gone as (delete from qw.workflow where id = %(id)s returning id, name, version)
insert into qw.removed_workflow (name, workflow_id, version) select name, id, version from gone
on conflict (name) do update
   set workflow_id = excluded.workflow_id, version = excluded.version, removed_at = clock_timestamp()
returning workflow_id

-- name: file_run
-- List a run under a workflow other than its own.
update qw.run set workflow_id = %(workflow)s where id = %(run)s

-- name: of_runs
select id, workflow_id from qw.run where id = any(%(runs)s::uuid[])

-- name: open_runs
-- The open runs of a workflow, with the number of their steps that have started.
select r.id, r.version, (select count(*) from qw.run_step s where s.run_id = r.id) as begun
  from qw.run r where r.workflow_id = %(workflow)s and r.finished_at is null
 order by r.id desc limit 1000

-- name: tasks
-- Ids of matching tasks under a workflow, newest first, below *before*.
select f.id from (
    select t.id, t.type, t.queue, t.created_at from qw.task t
     where t.headers ? 'workflowId' and t.headers ->> 'workflowId' = %(workflow)s::text
    union all
    select t.id, t.type, t.queue, t.created_at from qw.run r join qw.task t on t.run_id = r.id
     where r.workflow_id = %(workflow)s::uuid
  ) f
 where f.id < %(before)s::uuid
   and (%(type)s::text is null or f.type = %(type)s::text)
   and (%(queue)s::text is null or f.queue = %(queue)s::text)
   and (%(since)s::timestamptz is null or f.created_at >= %(since)s::timestamptz)
   and (%(until)s::timestamptz is null or f.created_at < %(until)s::timestamptz)
   and (%(status)s::text is null or exists (
     select 1 from qw.tasks s where s.id = f.id and s.status = %(status)s::text))
 order by f.id desc
 limit %(limit)s
