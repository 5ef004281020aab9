-- Numbers of invoices and credit notes. The row of the series stays locked until the end of the transaction, so numbers
-- are assigned one after another, and a rollback releases the number.

-- name: take
-- The number of the invoice of a task: its existing one unless a credit note cancelled it, otherwise the next number.
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
-- The number of the credit note for the last invoice of a task: the existing one, otherwise the next. No row: there is
-- no invoice. Of two concurrent calls for an invoice the second violates invoice_number_credits, and returns the number
-- of the first when it is repeated.
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
-- Disconnect a frozen worker that holds the lock of a series, so that others can continue.
select set_config('idle_in_transaction_session_timeout', '30s', true)
