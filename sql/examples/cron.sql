-- The four schedules of HotMesh's own documentation, for pg_cron. Run them in the database that pg_cron lives in, as the
-- app's owner. Each command is one CALL and nothing else: a second statement beside it would make a transaction of both.

-- Nightly: strip the execution artifacts of completed jobs.
SELECT cron.schedule('myapp strip', '0 2 * * *', $$
    CALL hotmesh_dba.prune_batched('myapp', prune_jobs => false, prune_streams => false, strip_attributes => true)
$$);

-- Hourly: engine messages after a day; worker messages, which exports of a workflow's history need, after 90.
SELECT cron.schedule('myapp streams', '15 * * * *', $$
    CALL hotmesh_dba.prune_batched('myapp', prune_jobs => false,
                                   prune_engine_streams => true, engine_streams_retention => '24 hours',
                                   prune_worker_streams => true, worker_streams_retention => '90 days')
$$);

-- Weekly: jobs of entity 'book' that expired more than 30 days ago.
SELECT cron.schedule('myapp books', '0 3 * * 0', $$
    CALL hotmesh_dba.prune_batched('myapp', '30 days', prune_streams => false, entity_list => ARRAY['book'])
$$);

-- Weekly: expired jobs that have no entity.
SELECT cron.schedule('myapp transient', '0 4 * * 0', $$
    CALL hotmesh_dba.prune_batched('myapp', '7 days', prune_jobs => false, prune_streams => false, prune_transient => true)
$$);
