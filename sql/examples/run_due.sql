-- One line in any scheduler for all apps: every policy says itself how often it runs.
SELECT * FROM hotmesh_dba.set_policy('myapp', 'nightly', '30 days', prune_jobs => true, strip_attributes => true,
                                     every => '1 day');
SELECT * FROM hotmesh_dba.set_policy('myapp', 'hourly', '7 days', prune_streams => true, prune_signals => true,
                                     max_percent => 100, every => '1 hour');

-- In pg_cron; each app's owner has a line like this, or one role that is a member of them all.
SELECT cron.schedule('hotmesh_dba run_due', '*/5 * * * *', $$CALL hotmesh_dba.run_due('4 minutes')$$);
