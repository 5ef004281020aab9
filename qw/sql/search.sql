-- The search for tasks. Like the lists of task.sql, each statement finds ids in one narrow table or index, newest
-- first, below *before* and not below *low*. "offset 0" forces a look-up per row: a merge join reads all newer tasks.

-- name: by_task
-- Walks all tasks, or those of one type, run or customer; with one final status, with any status, or pending.
select t.id from qw.task t
 where t.id < %(before)s::uuid and t.id >= %(low)s::uuid
   and (%(type)s::text is null or t.type = %(type)s::text)
   and (%(types)s::text[] is null or t.type = any(%(types)s::text[]))
   and (%(queues)s::text[] is null or t.queue = any(%(queues)s::text[]))
   and (%(run_id)s::uuid is null or t.run_id = %(run_id)s::uuid)
   and (%(customer)s::text is null
        or (t.payload ? 'customerId' and left(t.payload ->> 'customerId', 128) = left(%(customer)s::text, 128)))
   and (%(since)s::timestamptz is null or t.created_at >= %(since)s::timestamptz)
   and (%(until)s::timestamptz is null or t.created_at < %(until)s::timestamptz)
   and (%(paths)s::text[] is null or qw.has_values(t.payload, %(paths)s::text[], %(values)s::text[]))
   and (%(status)s::text is null or case %(status)s::text
     when 'pending' then exists (select 1 from qw.ready r where r.task_id = t.id and r.retries = 0)
                      or exists (select 1 from qw.scheduled s where s.task_id = t.id and s.retries = 0)
                      or exists (select 1 from qw.held h where h.task_id = t.id and h.retries = 0)
     else exists (select 1 from qw.finished f where f.task_id = t.id and f.status = %(status)s::text) end)
   and (%(errors)s::text[] is null
        or qw.has_texts((select f.error from qw.finished f where f.task_id = t.id), %(errors)s::text[])
        or exists (select 1 from qw.attempt a where a.task_id = t.id and qw.has_texts(a.error, %(errors)s::text[])))
 order by t.id desc
 limit %(limit)s

-- name: waiting
-- Walks pending tasks, or tasks that wait for a retry (*status* retrying).
select w.task_id
  from (select r.task_id, r.retries from qw.ready r
        union all
        select s.task_id, s.retries from qw.scheduled s
        union all
        select h.task_id, h.retries from qw.held h) w,
       lateral (
         select 1 from qw.task t
          where t.id = w.task_id
            and (%(types)s::text[] is null or t.type = any(%(types)s::text[]))
            and (%(queues)s::text[] is null or t.queue = any(%(queues)s::text[]))
            and (%(run_id)s::uuid is null or t.run_id = %(run_id)s::uuid)
            and (%(since)s::timestamptz is null or t.created_at >= %(since)s::timestamptz)
            and (%(until)s::timestamptz is null or t.created_at < %(until)s::timestamptz)
            and (%(paths)s::text[] is null or qw.has_values(t.payload, %(paths)s::text[], %(values)s::text[]))
         offset 0) fits
 where (w.retries > 0) = (%(status)s::text = 'retrying')
   and w.task_id < %(before)s::uuid and w.task_id >= %(low)s::uuid
   and (%(errors)s::text[] is null or exists (
     select 1 from qw.attempt a where a.task_id = w.task_id and qw.has_texts(a.error, %(errors)s::text[])))
 order by w.task_id desc
 limit %(limit)s

-- name: running
select r.task_id
  from qw.running r,
       lateral (
         select 1 from qw.task t
          where t.id = r.task_id
            and (%(types)s::text[] is null or t.type = any(%(types)s::text[]))
            and (%(queues)s::text[] is null or t.queue = any(%(queues)s::text[]))
            and (%(run_id)s::uuid is null or t.run_id = %(run_id)s::uuid)
            and (%(since)s::timestamptz is null or t.created_at >= %(since)s::timestamptz)
            and (%(until)s::timestamptz is null or t.created_at < %(until)s::timestamptz)
            and (%(paths)s::text[] is null or qw.has_values(t.payload, %(paths)s::text[], %(values)s::text[]))
         offset 0) fits
 where r.task_id < %(before)s::uuid and r.task_id >= %(low)s::uuid
   and (%(errors)s::text[] is null or exists (
     select 1 from qw.attempt a where a.task_id = r.task_id and qw.has_texts(a.error, %(errors)s::text[])))
 order by r.task_id desc
 limit %(limit)s

-- name: finished
-- Walks the finished tasks of one status.
select f.task_id
  from qw.finished f,
       lateral (
         select 1 from qw.task t
          where t.id = f.task_id
            and (%(types)s::text[] is null or t.type = any(%(types)s::text[]))
            and (%(queues)s::text[] is null or t.queue = any(%(queues)s::text[]))
            and (%(run_id)s::uuid is null or t.run_id = %(run_id)s::uuid)
            and (%(since)s::timestamptz is null or t.created_at >= %(since)s::timestamptz)
            and (%(until)s::timestamptz is null or t.created_at < %(until)s::timestamptz)
            and (%(paths)s::text[] is null or qw.has_values(t.payload, %(paths)s::text[], %(values)s::text[]))
         offset 0) fits
 where f.status = %(status)s
   and f.task_id < %(before)s::uuid and f.task_id >= %(low)s::uuid
   and (%(since)s::timestamptz is null or f.finished_at >= %(since)s::timestamptz)  -- checked before its task is read
   and (%(errors)s::text[] is null
        or qw.has_texts(f.error, %(errors)s::text[])
        or exists (select 1 from qw.attempt a where a.task_id = f.task_id and qw.has_texts(a.error, %(errors)s::text[])))
 order by f.task_id desc
 limit %(limit)s

-- name: newest_finished
-- The task that is a given number of places behind the newest with a final status. No row: there are fewer.
select f.task_id from qw.finished f
 where f.status = %(status)s and f.task_id < %(before)s::uuid and f.task_id >= %(low)s::uuid
 order by f.task_id desc offset %(most)s::integer limit 1
