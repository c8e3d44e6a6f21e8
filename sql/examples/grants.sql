-- A role that prunes one app and can do nothing else with it.
GRANT USAGE ON SCHEMA myapp TO pruner;
GRANT SELECT, DELETE ON myapp.jobs, myapp.jobs_attributes, myapp.engine_streams, myapp.worker_streams,
                        myapp.signal_registry TO pruner;
GRANT UPDATE (pruned_at) ON myapp.jobs TO pruner;    -- the strip marks jobs; deletion then also skips locked ones
