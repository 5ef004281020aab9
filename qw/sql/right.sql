-- Rights of roles. qw.core.rights defines what each right consists of.

-- name: granted
-- Roles with the rights granted to them, read from the privileges on qw.may_….
select r.rolname, substr(p.proname, 5)
  from pg_catalog.pg_proc p, lateral aclexplode(p.proacl) a join pg_catalog.pg_roles r on r.oid = a.grantee
 where p.pronamespace = 'qw'::regnamespace and p.proname like 'may\_%%' and a.privilege_type = 'EXECUTE'
   and a.grantee <> p.proowner
 order by 1, 2

-- name: held
-- The role of this session and the rights that it has, itself or as a member of other roles.
select current_user::text, array(
  select substr(p.proname, 5) from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
   where n.nspname = 'qw' and p.proname like 'may\_%%' and has_function_privilege(p.oid, 'execute'))

-- name: access
-- Whether this session's role may write and read tables directly, without the functions for roles that may not.
select coalesce(bool_or(has_table_privilege(c.oid, 'insert')) filter (where c.relname = 'task'), true),
       coalesce(bool_or(has_table_privilege(c.oid, 'select')) filter (where c.relname = 'tasks'), true)
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'qw' and c.relname in ('task', 'tasks')

-- name: owner
-- This session's role, the owner of qw, and whether the role has the owner's rights.
select current_user::text, pg_get_userbyid(nspowner)::text, pg_has_role(nspowner, 'usage')
  from pg_catalog.pg_namespace where nspname = 'qw'

-- name: functions
-- The functions of qw, and whether they run with their owner's rights. The functions may_… are left out: they record
-- the grants.
select proname::text, prosecdef from pg_catalog.pg_proc
 where pronamespace = 'qw'::regnamespace and proname not like 'may\_%%' and prorettype <> 'trigger'::regtype
 order by 1

-- name: relations
select relname::text from pg_catalog.pg_class
 where relnamespace = 'qw'::regnamespace and relkind in ('r', 'p', 'v', 'm') order by 1

-- name: may_operate
-- Fails for a role without the right to operate.
select qw.may_operate()

-- name: may_work
select qw.may_work()
