-- Metrics summed over all daemons, including ended ones, so that every daemon reports the same at /metrics.

-- name: add
-- Rows in order of the key, so that two daemons do not wait for each other crosswise.
insert into qw.measure as m (name, labels, counts, total)
select name, labels, counts, total
  from jsonb_to_recordset(%(measures)s::jsonb) as g (name text, labels text[], counts bigint[], total float8)
 order by name, labels
on conflict (name, labels) do update
   set counts = array(select coalesce(a, 0) + coalesce(b, 0)
                        from unnest(m.counts, excluded.counts) with ordinality as u (a, b, n) order by n),
       total = m.total + excluded.total

-- name: find
select name, labels, counts, total from qw.measure order by name, labels
