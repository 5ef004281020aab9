-- Metrics summed over all daemons, including ended ones, so that every daemon reports the same at /metrics.

-- name: add
-- Add to the totals, and to the sums of this minute and hour, so that charts and totals agree. Rows are written in key
-- order, so that two daemons cannot deadlock.
with sums as (
  insert into qw.measure as m (name, labels, counts, total)
  select name, labels, counts, total
    from jsonb_to_recordset(%(measures)s::jsonb) as g (name text, labels text[], counts bigint[], total float8)
   order by name, labels
  on conflict (name, labels) do update
     set counts = array(select coalesce(a, 0) + coalesce(b, 0)
                          from unnest(m.counts, excluded.counts) with ordinality as u (a, b, n) order by n),
         total = m.total + excluded.total
)
insert into qw.history as h (span, at, queue, name, result, counts, total)
select s.span, date_trunc(s.span, statement_timestamp(), 'UTC'), g.labels[1], g.name, g.labels[2], g.counts, g.total
  from (values ('hour'), ('minute')) s (span),
       jsonb_to_recordset(%(history)s::jsonb) as g (name text, labels text[], counts bigint[], total float8)
 order by 1, 3, 2, 4, 5
on conflict (span, queue, at, name, result) do update
   set counts = array(select coalesce(a, 0) + coalesce(b, 0)
                        from unnest(h.counts, excluded.counts) with ordinality as u (a, b, n) order by n),
       total = h.total + excluded.total

-- name: find
select name, labels, counts, total from qw.measure order by name, labels
