-- How many ticks of a schedule were missed: what became of ticks is forgotten, and a count must not fall.

alter table qw.schedule add column missed bigint not null default 0;
