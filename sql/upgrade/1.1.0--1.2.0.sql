ALTER TABLE hotmesh_dba.run ADD COLUMN policy text;
COMMENT ON COLUMN hotmesh_dba.run.policy IS 'Name of the policy that it followed; NULL where prune_batched was called by itself.';
ALTER TABLE hotmesh_dba.run ADD COLUMN expected_by_step jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN hotmesh_dba.run.expected_by_step IS 'The same by step: jobs, transient, engine_streams, worker_streams, strip, signals, those with anything due.';
