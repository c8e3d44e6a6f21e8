-- The four schedules of HotMesh's own documentation as policies: what is removed is said once, and the schedule says no more
-- than when. Run it as the app's owner, in the app's database.

-- Nightly: strip the execution artifacts of completed jobs.
SELECT * FROM hotmesh_dba.set_policy('myapp', 'strip', strip_attributes => true);
SELECT * FROM hotmesh_dba.schedule('myapp', 'strip', '0 2 * * *');

-- Hourly: engine messages after a day; worker messages, which exports of a workflow's history need, after 90. Nearly every
-- message is processed at once, so on a quiet day most of the table may be due: no fuse.
SELECT * FROM hotmesh_dba.set_policy('myapp', 'streams',
                                     prune_engine_streams => true, engine_streams_retention => '24 hours',
                                     prune_worker_streams => true, worker_streams_retention => '90 days',
                                     max_percent => 100);
SELECT * FROM hotmesh_dba.schedule('myapp', 'streams', '15 * * * *');

-- Weekly: jobs of entity 'book' that expired more than 30 days ago.
SELECT * FROM hotmesh_dba.set_policy('myapp', 'books', '30 days', prune_jobs => true, entity_list => ARRAY['book']);
SELECT * FROM hotmesh_dba.schedule('myapp', 'books', '0 3 * * 0');

-- Weekly: expired jobs that have no entity.
SELECT * FROM hotmesh_dba.set_policy('myapp', 'transient', '7 days', prune_transient => true);
SELECT * FROM hotmesh_dba.schedule('myapp', 'transient', '0 4 * * 0');
