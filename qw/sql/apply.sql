-- Definitions as sets of files apply them.

-- name: lock
-- One applies at a time; those who only read go on.
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
-- Runs go on: they keep the version they started with.
delete from qw.workflow where name = %(name)s

-- name: record
insert into qw.applied (owner, by, changes) values (%(owner)s, %(by)s, %(changes)s::jsonb)

-- name: history
-- What was applied, the newest first.
select id, owner, by, at, changes from qw.applied order by id desc limit %(limit)s
