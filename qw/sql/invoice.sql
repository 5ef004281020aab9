-- Numbers of invoices and credit notes. The row of the series stays locked until the end of the transaction, so numbers
-- are given one after another, and a rollback gives the number back.

-- name: take
-- The number of the invoice of a task: the one it has, unless a credit note took it back, else the next.
with known as (
  select n.year, n.number, n.given_at from qw.invoice_number n
   where n.task_id = %(task)s::uuid and n.credits_number is null
     and not exists (select 1 from qw.invoice_number c
                      where c.series = n.series and c.credits_year = n.year and c.credits_number = n.number)
), counted as (
  insert into qw.invoice_series as s (series, year, last)
  select %(series)s::text, extract(year from statement_timestamp() at time zone %(zone)s::text)::smallint, 1
   where not exists (select 1 from known)
  on conflict (series, year) do update set last = s.last + 1
  returning series, year, last
), given as (
  insert into qw.invoice_number (series, year, number, task_id)
  select series, year, last, %(task)s::uuid from counted
  returning year, number, given_at
)
select year, number, given_at from known union all select year, number, given_at from given

-- name: credit
-- The number of the credit note over the last invoice of a task: the one there is, else the next. No row: no invoice.
-- Two at once for the same invoice: the second violates invoice_number_credits and finds the first one's when repeated.
with invoice as (
  select n.series, n.year, n.number from qw.invoice_number n
   where n.task_id = %(invoiced)s::uuid and n.credits_number is null
   order by n.given_at desc, n.year desc, n.number desc limit 1
), known as (
  select c.year, c.number, c.given_at from invoice i, qw.invoice_number c
   where c.series = i.series and c.credits_year = i.year and c.credits_number = i.number
), counted as (
  insert into qw.invoice_series as s (series, year, last)
  select i.series, extract(year from statement_timestamp() at time zone %(zone)s::text)::smallint, 1 from invoice i
   where not exists (select 1 from known)
  on conflict (series, year) do update set last = s.last + 1
  returning series, year, last
), given as (
  insert into qw.invoice_number (series, year, number, task_id, credits_year, credits_number)
  select n.series, n.year, n.last, %(by)s::uuid, i.year, i.number from counted n, invoice i
  returning year, number, given_at
)
select year, number, given_at from known union all select year, number, given_at from given

-- name: limit_idle
-- A frozen worker that holds the lock of a series is disconnected, so that others can go on.
select set_config('idle_in_transaction_session_timeout', '30s', true)
