-- Bulk actions on many tasks in the background.

-- name: start
insert into qw.bulk (action, search, ids, running, reason, by, matched, is_estimate)
values (%(action)s, %(search)s::text, %(ids)s::uuid[], %(running)s, %(reason)s, %(by)s, %(matched)s, %(is_estimate)s)
returning id

-- name: progress
-- Store the progress. Returns whether a stop was requested.
update qw.bulk set done = %(done)s, skipped = %(skipped)s::jsonb, beat_at = statement_timestamp()
 where id = %(id)s returning stop_asked

-- name: finish
update qw.bulk set state = %(state)s, error = %(error)s::text, finished_at = statement_timestamp() where id = %(id)s

-- name: stop
-- Request a stop. No row: the action has ended, or does not exist.
update qw.bulk set stop_asked = true where id = %(id)s and state = 'running' returning id

-- name: find
-- The newest actions, or one by id. interrupted: there was no progress for some seconds.
select id, action, search, cardinality(ids), by,
       case when state = 'running' and beat_at < statement_timestamp() - make_interval(secs => %(silence)s::integer)
            then 'interrupted' else state end,
       matched, is_estimate, done, skipped, started_at, finished_at, error
  from qw.bulk
 where %(id)s::bigint is null or id = %(id)s::bigint
 order by id desc limit %(limit)s

-- name: prune
with old as (
  delete from qw.bulk where id = any(array(
    select id from qw.bulk where started_at < statement_timestamp() - %(age)s::interval
     limit %(limit)s for update skip locked)) returning 1
)
select count(*) from old
