-- The audit log: who did what. Functions that SQL users call add their own rows.

-- name: add
-- Without an actor, the actor is the role of the session.
insert into qw.audit (actor, via, verb, target, count, outcome, detail)
values (coalesce(%(actor)s::text, qw.acting_role()), %(via)s, %(verb)s, %(target)s, %(count)s::bigint, %(outcome)s, %(detail)s::text)

-- name: find
-- Entries below an id, newest first.
select id, at, actor, via, verb, target, count, outcome, detail from qw.audit
 where id < %(before)s::bigint
   and (%(actor)s::text is null or actor = %(actor)s::text)
   and (%(verb)s::text is null or verb = %(verb)s::text or starts_with(verb, %(verb)s::text || ' '))
   and (%(via)s::text is null or via = %(via)s::text)
   and (%(since)s::timestamptz is null or at >= %(since)s::timestamptz)
 order by id desc limit %(limit)s

-- name: prune
with old as (
  delete from qw.audit where id = any(array(
    select id from qw.audit where at < statement_timestamp() - %(age)s::interval
     limit %(limit)s for update skip locked)) returning 1
)
select count(*) from old
