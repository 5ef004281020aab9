-- The outbox (events to be published to a broker) and the event log. Slots: session locks (7178, 0 … 15); every relay
-- holds (7178, 17) shared, so that relays can count each other. (7178, 16) is the writer's lock of the event log.

-- name: source
select current_database()

-- name: want
-- Write these types, and those that readers of the event log requested, to the outbox from now on; no others. The relay
-- that started last decides.
with gone as (
  delete from qw.wanted where type <> all(%(types)s::text[]) and read_at is null
)
insert into qw.wanted (type) select t from unnest(%(types)s::text[]) t order by t
on conflict (type) do update set seen_at = statement_timestamp()

-- name: also_want
insert into qw.wanted (type) select t from unnest(%(types)s::text[]) t order by t
on conflict (type) do update set seen_at = statement_timestamp(), read_at = null

-- name: still_want
update qw.wanted set seen_at = statement_timestamp() where type = any(%(types)s::text[])

-- name: want_to_read
-- Enable event types for readers of the event log, for a day; readers renew it.
select qw.want_to_read(%(types)s::text[])

-- name: forget_unwanted
-- Disable event types that no relay requested within the age, and delete their old events.
with gone as (
  delete from qw.wanted
   where seen_at < statement_timestamp() - %(age)s::interval or read_at < statement_timestamp() - interval '1 day'
), left_over as (
  delete from qw.outbox where id = any(array(
    select o.id from qw.outbox o
     where not exists (select 1 from qw.wanted w where w.seen_at >= statement_timestamp() - %(age)s::interval)
       and o.at < statement_timestamp() - %(age)s::interval
     order by o.id limit %(limit)s for update skip locked))
  returning 1
)
select count(*) from left_over

-- name: join_relays
select pg_advisory_lock_shared(7178, 17)

-- name: relays
select count(*) from pg_locks
 where locktype = 'advisory' and classid = 7178 and objid = 17 and objsubid = 2 and granted
   and database = (select oid from pg_database where datname = current_database())

-- name: observe_locks
-- Whether a slot is free: it has no owner, or its worker was declared dead. Also the heartbeat counters of the workers
-- whose session is a relay.
select (select count(*) from pg_locks
         where locktype = 'advisory' and classid = 7178 and objid < 16 and objsubid = 2 and granted
           and database = (select oid from pg_database where datname = current_database())) < 16
       or coalesce(bool_or(w.dead_at is not null or w.stopped_at is not null), false) as has_free,
       coalesce(array_agg(w.id) filter (where w.dead_at is null and w.stopped_at is null), '{}') as ids,
       coalesce(array_agg(w.beats) filter (where w.dead_at is null and w.stopped_at is null), '{}') as beats
  from qw.relay r join qw.worker w on w.id = r.worker

-- name: observe_leases
select coalesce(sum(s.slots), 0) < 16 as has_free,
       coalesce(array_agg(w.id), '{}') as ids, coalesce(array_agg(w.beats), '{}') as beats
  from (select worker, count(*) as slots from qw.relay_slot group by worker) s
  join qw.worker w on w.id = s.worker and w.dead_at is null and w.stopped_at is null

-- name: try_slot
select pg_try_advisory_lock(7178, %(slot)s::integer)

-- name: leave_slot
select pg_advisory_unlock(7178, %(slot)s::integer)

-- name: lease_slots
-- Renew the slots of this worker, up to its share. If it has fewer, take free slots, and slots of workers that are
-- dead, or silent with no heartbeat since they were observed. Returns the slots held.
with owner as materialized (
  select w.id from qw.worker w
    left join unnest(%(silent)s::integer[], %(beats)s::bigint[]) as g (id, beats) on g.id = w.id
   where w.dead_at is null and w.stopped_at is null and w.beats is distinct from g.beats
), mine as materialized (
  select g.slot from generate_series(0, 15) g (slot) left join qw.relay_slot s on s.slot = g.slot
   where s.slot is null or s.worker = %(worker)s::integer or s.worker not in (select id from owner)
   order by (s.worker = %(worker)s::integer) desc nulls last, g.slot limit %(share)s
), rest as (
  delete from qw.relay_slot where worker = %(worker)s::integer and slot <> all(array(select slot from mine))
)
insert into qw.relay_slot as s (slot, worker)
select slot, %(worker)s::integer from mine order by slot
on conflict (slot) do update set worker = excluded.worker
   where s.worker = excluded.worker or s.worker not in (select id from owner)
returning s.slot

-- name: lessees
select count(distinct s.worker) from qw.relay_slot s join qw.worker w on w.id = s.worker
 where s.worker <> all(%(others_than)s::integer[]) and w.dead_at is null and w.stopped_at is null

-- name: end_silent_relays
-- Close the sessions of relays whose worker is silent, with no heartbeat since it was observed. As in end_dead_relays,
-- sessions of a role that we may not terminate are skipped.
with silent as materialized (
  select r.worker, r.pid from unnest(%(silent)s::integer[], %(beats)s::bigint[]) as g (id, beats)
    join qw.worker w on w.id = g.id and w.beats = g.beats
    join qw.relay r on r.worker = w.id
    join pg_locks l on l.pid = r.pid
    join pg_stat_activity a on a.pid = l.pid and pg_has_role(a.usesysid, 'usage')
   where l.locktype = 'advisory' and l.classid = 7178 and l.objid = 17 and l.objsubid = 2 and l.granted
     and l.database = (select oid from pg_database where datname = current_database()) and l.pid <> pg_backend_pid()
)
select worker, pg_terminate_backend(pid) from silent

-- name: end_dead_relays
-- Close the sessions of relays whose worker was declared dead: a frozen one would keep its slots for ever. Skips
-- sessions of a role that we may not terminate, which would fail the whole statement.
with gone as (
  delete from qw.relay r using qw.worker w
   where w.id = r.worker and (w.dead_at is not null or w.stopped_at is not null)
  returning r.pid
)
select pg_terminate_backend(l.pid) from gone join pg_locks l on l.pid = gone.pid
  join pg_stat_activity a on a.pid = l.pid and pg_has_role(a.usesysid, 'usage')
 where l.locktype = 'advisory' and l.classid = 7178 and l.objid = 17 and l.objsubid = 2 and l.granted
   and l.pid <> pg_backend_pid()

-- name: read
-- The first events of these slots after the cursor, in id order, without the blocked ones. They are found by id alone:
-- an index by slot would cost every writer more than it costs a relay to skip other slots. is_behind: an earlier event
-- of the same task is blocked. writers: the transactions that may still add events, which are those that hold the lock
-- of an insert. pg_locks is read after the snapshot was taken, so the snapshot has no event of theirs. The reading
-- starts before the cursor, at the floor of each known writer that has ended.
with open as materialized (
  select coalesce(array_agg(distinct l.virtualtransaction), '{}') as writers
    from pg_locks l
   where l.locktype = 'relation' and l.relation = 'qw.outbox'::regclass and l.mode = 'RowExclusiveLock' and l.granted
     and l.database = (select oid from pg_database where datname = current_database())
     and l.pid is distinct from pg_backend_pid()
), start as materialized (
  select least(%(cursor)s::bigint,
               (select min(k.floor) from unnest(%(known)s::text[], %(floors)s::bigint[]) as k (writer, floor)
                 where k.writer <> all(o.writers))) as id
    from open o
)
select t.*, exists (select 1 from qw.blocked_event b where b.key = coalesce(t.task_id, t.run_id, t.event)) as is_behind,
       case when isfinite(t.at) then extract(epoch from clock_timestamp() - t.at) else 0 end::float8 as age,
       (select array_to_string(o.writers, ' ') from open o) as writers
  from qw.telling t
 where t.slot = any(%(slots)s::smallint[]) and t.id > (select s.id from start s)
   and not exists (select 1 from qw.blocked_event b where b.id = t.id)
 order by t.id limit %(limit)s

-- name: writers
-- The transactions that may still add events, as in read.
select distinct l.virtualtransaction from pg_locks l
 where l.locktype = 'relation' and l.relation = 'qw.outbox'::regclass and l.mode = 'RowExclusiveLock' and l.granted
   and l.database = (select oid from pg_database where datname = current_database())
   and l.pid is distinct from pg_backend_pid()

-- name: read_again
-- Events by id, in order. Ids that no longer exist are left out.
select t.*, false as is_behind, 0::float8 as age, '' as writers from qw.telling t
 where t.id = any(%(ids)s::bigint[])
 order by t.id

-- name: forget
-- Delete events that every target has received.
delete from qw.outbox where id = any(%(ids)s::bigint[])

-- name: block
-- Block events that could not be published, with the reason; null for events that wait behind one of the same task.
-- They are retried after a delay that doubles.
insert into qw.blocked_event as b (id, slot, key, reason, try_at)
select g.id, t.slot, t.key, g.reason, case when g.reason is not null then clock_timestamp() + %(first)s::interval end
  from unnest(%(ids)s::bigint[], %(reasons)s::text[]) as g (id, reason)
  join lateral (select t.slot, coalesce(t.task_id, t.run_id, t.event) as key
                  from qw.telling t where t.id = g.id limit 1) t on true
 order by g.id
on conflict (id) do update
   set reason = excluded.reason,
       tries = b.tries + (excluded.reason is not null)::integer,
       try_at = case when excluded.reason is not null
                  then clock_timestamp() + least(%(first)s::interval * 2 ^ least(b.tries, 30), %(longest)s::interval) end

-- name: due_blocked
-- The ids of blocked events to retry now: the first events of each task whose very first one is due.
with first as materialized (
  select b.key from qw.blocked_event b
   where b.slot = any(%(slots)s::smallint[]) and (b.try_at is null or b.try_at <= clock_timestamp())
     and not exists (select 1 from qw.blocked_event e where e.key = b.key and e.id < b.id)
   order by b.id limit %(limit)s
)
select l.id from first f
 cross join lateral (select b.id from qw.blocked_event b where b.key = f.key order by b.id limit 100) l
 order by l.id limit %(limit)s

-- name: unblock
-- Unblock events that were published or deleted; others rejected for the same reason become due at once.
with gone as (
  delete from qw.blocked_event where id = any(%(ids)s::bigint[]) returning reason
)
update qw.blocked_event b set try_at = clock_timestamp()
 where b.slot = any(%(slots)s::smallint[]) and b.id <> all(%(ids)s::bigint[])
   and b.reason = any(array(select reason from gone)) and b.try_at > clock_timestamp()

-- name: blocked
-- The number of blocked events, exact to 10,000; time and reason of the oldest. Events that wait behind them are not
-- counted.
select count(*) as count, min(blocked_at) as since, (array_agg(reason order by id))[1] as reason
  from (select id, blocked_at, reason from qw.blocked_event
         where reason is not null and (%(slots)s::smallint[] is null or slot = any(%(slots)s::smallint[]))
         order by id limit 10000) b

-- name: list_blocked
-- Blocked events, oldest first, with the number of events that wait behind each.
select b.id, t.type, t.task_id, t.run_id, b.reason, b.tries, b.blocked_at, b.try_at,
       (select count(*) from qw.blocked_event e where e.key = b.key and e.id > b.id) as behind
  from (select * from qw.blocked_event where reason is not null order by id limit %(limit)s) b
  join lateral (select o.type, o.task_id, o.run_id from qw.outbox o where o.id = b.id limit 1) t on true
 order by b.id

-- name: drop_blocked
-- Delete blocked events by id, or all; events behind them are then published. Returns the ids deleted.
with gone as (
  delete from qw.blocked_event b
   where b.reason is not null and (%(ids)s::bigint[] is null or b.id = any(%(ids)s::bigint[]))
  returning b.id
), dropped as (
  delete from qw.outbox where id = any(array(select id from gone))
)
select id from gone order by id

-- name: keep
select qw.keep_events(%(messages)s::jsonb)

-- name: last
-- The newest id of the log; 0 if it is empty.
select coalesce(max(id), 0) from qw.event

-- name: first_since
-- The id before the first event logged since a time; the newest id if there is none.
select coalesce((select min(id) - 1 from qw.event where kept_at >= %(since)s::timestamptz),
                (select coalesce(max(id), 0) from qw.event))

-- name: after
-- Events of the log after an id, in order. *pattern* is a LIKE pattern for the type.
select id, event, type, task_id, run_id, at, body from qw.event
 where id > %(id)s::bigint
   and (%(pattern)s::text is null or type like %(pattern)s::text)
   and (%(task)s::uuid is null or task_id = %(task)s::uuid)
   and (%(run)s::uuid is null or run_id = %(run)s::uuid)
 order by id limit %(limit)s

-- name: replay
-- Insert events of the log after an id into the outbox again, with their old ids. Returns their number and the last id.
with again as (
  select id, event, type, task_id, run_id, at, body from qw.event
   where id > %(id)s::bigint and id <= %(last)s::bigint
     and (%(pattern)s::text is null or type like %(pattern)s::text)
     and (%(task)s::uuid is null or task_id = %(task)s::uuid)
   order by id limit %(limit)s
), put as (
  insert into qw.outbox (event, type, task_id, run_id, at, data)
  select event, type, task_id, case when task_id is null then run_id end, at, jsonb_build_object('replayed', body)
    from again order by id
)
select count(*), coalesce(max(id), 0) from again

-- name: prune
-- Delete log events older than the age, oldest first.
with old as (
  delete from qw.event where id = any(array(
    select id from qw.event where kept_at < statement_timestamp() - %(age)s::interval
     order by id limit %(limit)s for update skip locked)) returning 1
)
select count(*) from old

-- name: set_state
insert into qw.relay (worker, pid, broker, state, reason, error)
values (%(worker)s, pg_backend_pid(), %(broker)s, %(state)s, %(reason)s, %(error)s)
on conflict (worker) do update
   set pid = excluded.pid, broker = excluded.broker, state = excluded.state, reason = excluded.reason, error = excluded.error,
       since = case when qw.relay.state = excluded.state then qw.relay.since else statement_timestamp() end

-- name: drop_state
delete from qw.relay where worker = %(worker)s

-- name: states
-- The states of the relays of live workers.
select r.worker, r.broker, r.state, r.reason, r.error, r.since
  from qw.relay r join qw.worker w on w.id = r.worker
 where w.dead_at is null and w.stopped_at is null order by r.worker

-- name: lags
-- The backlog of each relay, exact to 10,000, and the time of its oldest event. The slots of a relay are the locks of
-- its session, or its leases behind a pooler.
with owned as (
  select r.worker, array_agg(l.objid::int::smallint) as slots
    from qw.relay r
    join pg_locks l on l.pid = r.pid and l.locktype = 'advisory' and l.classid = 7178 and l.objsubid = 2 and l.granted
   where l.objid::int < 16 and l.database = (select oid from pg_database where datname = current_database())
   group by r.worker
  union all
  select s.worker, array_agg(s.slot) from qw.relay_slot s join qw.worker w on w.id = s.worker
   where w.dead_at is null and w.stopped_at is null group by s.worker
)
select o.worker, w.pending, w.oldest
  from owned o,
       lateral (
         select count(*) as pending, min(t.at) filter (where isfinite(t.at)) as oldest
           from (select at from qw.telling t where t.slot = any(o.slots) order by t.id limit 10000) t) w

-- name: set_consumer
-- Also deletes the consumers of workers that have ended.
with gone as (
  delete from qw.consumer c using qw.worker w
   where w.id = c.worker and c.worker <> %(worker)s::integer and (w.dead_at is not null or w.stopped_at is not null)
)
insert into qw.consumer as c (worker, broker, queue, state, reason, error)
values (%(worker)s::integer, %(broker)s, %(queue)s, %(state)s, %(reason)s, %(error)s)
on conflict (worker) do update
   set broker = excluded.broker, queue = excluded.queue, state = excluded.state, reason = excluded.reason, error = excluded.error,
       since = case when c.state = excluded.state then c.since else statement_timestamp() end

-- name: consumers
-- The states of the consumers of live workers.
select c.worker, c.broker, c.queue, c.state, c.reason, c.error, c.since
  from qw.consumer c join qw.worker w on w.id = c.worker
 where w.dead_at is null and w.stopped_at is null order by c.worker

-- name: before
-- The newest events of the log before an id. *pattern* is a LIKE pattern for the type.
select id, event, type, task_id, run_id, at, body from qw.event
 where id < %(id)s::bigint
   and (%(pattern)s::text is null or type like %(pattern)s::text)
   and (%(task)s::uuid is null or task_id = %(task)s::uuid)
   and (%(run)s::uuid is null or run_id = %(run)s::uuid)
 order by id desc limit %(limit)s
