-- A role that prunes one app and can do nothing else with it. Call it again after a partition was added.
SELECT * FROM hotmesh_dba.grant_prune('myapp', 'pruner');     -- runs the following, and returns it:
-- GRANT USAGE ON SCHEMA myapp TO pruner;
-- GRANT SELECT, DELETE ON myapp.jobs, myapp.jobs_part_0, … TO pruner;
-- GRANT UPDATE (pruned_at) ON myapp.jobs, myapp.jobs_part_0, … TO pruner;    the strip marks; deletion then skips locked jobs
-- GRANT SELECT, DELETE ON myapp.jobs_attributes, … TO pruner;
-- GRANT SELECT, DELETE ON myapp.engine_streams, … TO pruner;
-- GRANT SELECT, DELETE ON myapp.worker_streams, … TO pruner;
-- GRANT SELECT, DELETE ON myapp.signal_registry TO pruner;
