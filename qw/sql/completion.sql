-- Candidates for shell completion: names and their descriptions. All parameters and columns are text;
-- store/completion.py runs these statements.

-- name: tasks
-- The newest tasks with these statuses and ids in a range: id, status, type, and the words of a command.
select t.id::text, w.status, t.type,
       coalesce(t.payload ->> 'command', t.payload ->> 'run',
                case when jsonb_typeof(t.payload -> 'argv') = 'array' then (
                  select string_agg(case jsonb_typeof(word) when 'string' then word #>> '{}' else '…' end, ' ') from jsonb_array_elements(t.payload -> 'argv') word)
                end, t.step, '')
  from (
    (select task_id, case when retries > 0 then 'retrying' else 'pending' end as status from qw.ready
      where task_id between %(low)s::uuid and %(high)s::uuid order by task_id desc limit 5000)
    union all
    (select task_id, case when retries > 0 then 'retrying' else 'pending' end from qw.scheduled
      where task_id between %(low)s::uuid and %(high)s::uuid order by task_id desc limit 5000)
    union all
    (select task_id, case when retries > 0 then 'retrying' else 'pending' end from qw.held
      where task_id between %(low)s::uuid and %(high)s::uuid order by task_id desc limit 5000)
    union all
    (select task_id, 'processing' from qw.running
      where task_id between %(low)s::uuid and %(high)s::uuid order by task_id desc limit 50)
    union all
    (select task_id, status from qw.finished
      where status = 'completed' and task_id between %(low)s::uuid and %(high)s::uuid order by task_id desc limit 50)
    union all
    (select task_id, status from qw.finished
      where status = 'failed' and task_id between %(low)s::uuid and %(high)s::uuid order by task_id desc limit 50)
    union all
    (select task_id, status from qw.finished
      where status = 'cancelled' and task_id between %(low)s::uuid and %(high)s::uuid order by task_id desc limit 50)
  ) w join qw.task t on t.id = w.task_id
 where w.status = any(string_to_array(%(statuses)s::text, ','))
 order by t.id desc limit 50

-- name: runs
select id::text, status, workflow from qw.run
 where id between %(low)s::uuid and %(high)s::uuid and status = any(string_to_array(%(statuses)s::text, ','))
 order by id desc limit 50

-- name: queues
select queue, sum(live)::text || ' waiting or running' from qw.tally
 where starts_with(queue, %(start)s::text) group by queue order by queue limit 1000

-- name: types
select name, '' from qw.task_types() name where starts_with(name, %(start)s::text) order by name limit 1000

-- name: workflows
select name, '' from qw.workflow where starts_with(name, %(start)s::text) order by name limit 1000

-- name: schedules
select name, coalesce(cron, 'every ' || every, 'at ' || at) from qw.schedule
 where starts_with(name, %(start)s::text) order by name limit 1000

-- name: workers
select id::text, host || ':' || pid from qw.worker where starts_with(id::text, %(start)s::text) order by id limit 1000
