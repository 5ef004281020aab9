-- What HTTP needs: workflow names that are no identifiers, and tasks filed under a workflow without a run of it.

alter table qw.workflow add column title text;  -- as people wrote it; null: the name
create index task_filed on qw.task ((headers ->> 'workflowId'), id) where headers ? 'workflowId';
create index run_of_workflow on qw.run (workflow_id, id);
