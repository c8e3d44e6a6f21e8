-- The rows that say `running`, seen with the caller's rights: a view of the table itself would, before PostgreSQL 15
-- could be told otherwise, see with its owner's.
CREATE OR REPLACE FUNCTION hotmesh_dba._running() RETURNS SETOF hotmesh_dba.run
LANGUAGE sql VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$ SELECT r.* FROM hotmesh_dba.run r WHERE r.state = 'running' $$;

CREATE OR REPLACE VIEW hotmesh_dba.progress AS
SELECT r.id AS run_id, r.group_id, r.app, r.worker, r.workers, r.role, r.pid,
       -- Between two batches it has no lock for a moment.
       CASE WHEN hotmesh_dba._is_alive(r)
              OR r.updated_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => 2)
             AND EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(r.pid))
            THEN 'running' ELSE 'interrupted' END AS state,
       r.started_at, r.updated_at, r.batches, hotmesh_dba._rows_done(r) AS rows_done, r.expected AS rows_expected,
       d.rows_left, d.rate AS rows_per_second,
       -- No more than a hundred years: an interval ends somewhere.
       CASE WHEN d.rate > 0 THEN pg_catalog.make_interval(secs => least(d.rows_left / d.rate, 3153600000)) END AS time_left
FROM hotmesh_dba._running() r,
     LATERAL (SELECT hotmesh_dba._rows_left(r) AS rows_left, hotmesh_dba._rate(r) AS rate) d;

GRANT SELECT ON hotmesh_dba.progress TO PUBLIC;
COMMENT ON VIEW hotmesh_dba.progress IS
'The runs of prune_batched that have not ended, as far as you may see them (see table hotmesh_dba.run).';
COMMENT ON COLUMN hotmesh_dba.progress.run_id IS 'Its row in hotmesh_dba.run.';
COMMENT ON COLUMN hotmesh_dba.progress.group_id IS 'Of the workers that share a run the first one''s id.';
COMMENT ON COLUMN hotmesh_dba.progress.app IS 'Name of the app schema.';
COMMENT ON COLUMN hotmesh_dba.progress.worker IS 'Which of the workers, from 1.';
COMMENT ON COLUMN hotmesh_dba.progress.workers IS 'How many share the work.';
COMMENT ON COLUMN hotmesh_dba.progress.role IS 'Who runs it.';
COMMENT ON COLUMN hotmesh_dba.progress.pid IS 'Its server process: SELECT pg_cancel_backend(pid) ends it.';
COMMENT ON COLUMN hotmesh_dba.progress.state IS 'running; or interrupted: its process is gone, what it had committed stays, and the app''s next run closes its record.';
COMMENT ON COLUMN hotmesh_dba.progress.started_at IS 'When it began.';
COMMENT ON COLUMN hotmesh_dba.progress.updated_at IS 'When its last batch was recorded.';
COMMENT ON COLUMN hotmesh_dba.progress.batches IS 'Transactions so far.';
COMMENT ON COLUMN hotmesh_dba.progress.rows_done IS 'Jobs, messages and signals deleted and jobs stripped so far.';
COMMENT ON COLUMN hotmesh_dba.progress.rows_expected IS 'How many there were at the start, as bounded probes estimated it.';
COMMENT ON COLUMN hotmesh_dba.progress.rows_left IS 'The difference: an estimate.';
COMMENT ON COLUMN hotmesh_dba.progress.rows_per_second IS 'Since its start, pauses included.';
COMMENT ON COLUMN hotmesh_dba.progress.time_left IS 'What is left at that rate.';
