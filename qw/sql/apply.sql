-- Definitions applied from files.

-- name: lock
-- Serializes applies; readers are not blocked.
lock table qw.owned in share row exclusive mode

-- name: owned
select kind, name, owner, document from qw.owned order by kind, name

-- name: of_kind
select name, document from qw.owned where kind = %(kind)s order by name

-- name: one
select document from qw.owned where kind = %(kind)s and name = %(name)s

-- name: own
insert into qw.owned (kind, name, owner, document)
select * from unnest(%(kinds)s::text[], %(names)s::text[], %(owners)s::text[], %(documents)s::jsonb[])
on conflict (kind, name) do update set owner = excluded.owner, document = excluded.document

-- name: disown
delete from qw.owned where kind = %(kind)s and name = %(name)s

-- name: remove_workflow
-- Runs continue: they keep the version they started with, and may start the last version of this workflow.
with gone as (delete from qw.workflow where name = %(name)s returning id, name, version)
insert into qw.removed_workflow (name, workflow_id, version) select name, id, version from gone
on conflict (name) do update
   set workflow_id = excluded.workflow_id, version = excluded.version, removed_at = clock_timestamp()

-- name: schedules
-- The workflow or declared command that each schedule starts.
select name, workflow, case when type = 'command' then payload ->> 'command' end from qw.schedule
 where workflow is not null or type = 'command' order by name

-- name: open_runs
-- The number of open runs by workflow version, with the definition.
select r.workflow, count(*), v.document from qw.run r join qw.workflow_version v on v.id = r.version
 where r.finished_at is null group by r.workflow, v.id order by r.workflow, v.id

-- name: record
insert into qw.applied (owner, by, changes) values (%(owner)s, %(by)s, %(changes)s::jsonb)

-- name: history
-- The history, newest first.
select id, owner, by, at, changes from qw.applied order by id desc limit %(limit)s

-- name: prune
with old as (
  delete from qw.applied where id = any(array(
    select id from qw.applied
     where at < statement_timestamp() - %(age)s::interval and id <= (select max(id) - %(keep)s from qw.applied)
     order by id limit %(limit)s)) returning 1
)
select count(*) from old
