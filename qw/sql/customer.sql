-- Customers: tasks whose payload names a customer, and all other tasks of the same runs.

-- name: tasks
-- Newest first.
with own as materialized (
  select t.id, t.run_id from qw.task t
   where t.payload ? 'customerId' and left(t.payload ->> 'customerId', 128) = left(%(customer)s::text, 128)
     and t.payload ->> 'customerId' = %(customer)s::text
   order by t.id desc limit 10000
), wanted as (
  select id from own
  union
  select t.id from qw.task t where t.run_id = any(array(select run_id from own where run_id is not null))
)
select s.id, s.type, s.status, s.created_at, s.finished_at
  from qw.tasks s where s.id = any(array(select id from wanted order by id desc limit %(limit)s))
 order by s.id desc

-- name: status
-- Counts by what a task is filed under: its run (or the workflow that the run is listed under), a workflow, or nothing.
with own as materialized (
  select t.id, t.run_id from qw.task t
   where t.payload ? 'customerId' and left(t.payload ->> 'customerId', 128) = left(%(customer)s::text, 128)
     and t.payload ->> 'customerId' = %(customer)s::text
   order by t.id desc limit 10000
), wanted as (
  select id from own
  union
  select t.id from qw.task t where t.run_id = any(array(select run_id from own where run_id is not null))
)
select coalesce(case when w.name = r.workflow then r.id else r.workflow_id end::text, s.headers ->> 'workflowId',
                'standalone') as filed_under,
       count(*) as total,
       count(*) filter (where s.status = 'completed') as completed,
       count(*) filter (where s.status = 'failed') as failed,
       count(*) filter (where s.status in ('pending', 'retrying')) as pending,
       count(*) filter (where s.status = 'processing') as processing,
       coalesce(bool_or(r.finished_at is null) filter (where r.id is not null), false) as is_open
  from qw.tasks s left join qw.run r on r.id = s.run_id left join qw.workflow w on w.id = r.workflow_id
 where s.id = any(array(select id from wanted))
 group by 1 order by 1
