-- A literal that stands in a job's command, with or without its parameter's name before it.
CREATE OR REPLACE FUNCTION hotmesh_dba._argument(command text, routine text, number int) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT replace((regexp_match(command, '[[:<:]]hotmesh_dba[[:space:]]*[.][[:space:]]*' || routine || '[[:space:]]*[(]'
                                          || repeat('[[:space:]]*(?:[[:alnum:]_]+[[:space:]]*=>)?[[:space:]]*''(?:[^'']|'''')*''[[:space:]]*,', number - 1)
                                          || '[[:space:]]*(?:[[:alnum:]_]+[[:space:]]*=>)?[[:space:]]*''((?:[^'']|'''')*)''', 'i'))[1], '''''', '''')
$$;

-- pg_cron's jobs that call us, as far as the caller sees them (row-level security of pg_cron: his own), each with its last
-- outcome, if it is among the last 10,000 (pg_cron keeps them for ever, with no index on the job). pg_cron may not be there,
-- so its tables stand in text alone.
CREATE OR REPLACE FUNCTION hotmesh_dba._schedules()
RETURNS TABLE (job_id bigint, job_name text, command text, cron_expression text, role name, database name, active boolean,
               last_started timestamptz, last_finished timestamptz, last_status text, last_message text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT hotmesh_dba._cron_is_here() OR NOT has_schema_privilege('cron', 'USAGE')
       OR NOT has_table_privilege('cron.job', 'SELECT') OR NOT has_table_privilege('cron.job_run_details', 'SELECT') THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE $query$
        SELECT j.jobid, j.jobname::text, j.command, j.schedule, j.username::name, j.database::name, j.active,
               d.start_time, d.end_time, d.status, d.return_message
        FROM cron.job j
        LEFT JOIN LATERAL (SELECT r.* FROM cron.job_run_details r WHERE r.jobid = j.jobid AND r.runid > (SELECT max(l.runid) - 10000 FROM cron.job_run_details l)
                           ORDER BY r.runid DESC LIMIT 1) d ON true
        WHERE j.command ~* '[[:<:]]hotmesh_dba[[:space:]]*[.]'
    $query$;
END
$$;

CREATE OR REPLACE VIEW hotmesh_dba.schedules AS
SELECT s.job_id, s.job_name,
       coalesce(hotmesh_dba._argument(s.command, 'run_policy', 1),
                hotmesh_dba._argument(s.command, 'prune_batched', 1))::name AS app,
       hotmesh_dba._argument(s.command, 'run_policy', 2) AS policy,
       s.cron_expression, s.role, s.database, s.active, s.last_started, s.last_finished, s.last_status, s.last_message
FROM hotmesh_dba._schedules() s;

GRANT SELECT ON hotmesh_dba.schedules TO PUBLIC;
COMMENT ON VIEW hotmesh_dba.schedules IS
'Jobs of pg_cron that call a routine of hotmesh_dba, as far as you may see them, with their last outcome. Empty where pg_cron is not in this database, or may not be read.';
COMMENT ON COLUMN hotmesh_dba.schedules.job_id IS 'What cron.unschedule takes.';
COMMENT ON COLUMN hotmesh_dba.schedules.job_name IS 'Name of the job; NULL where it has none.';
COMMENT ON COLUMN hotmesh_dba.schedules.app IS 'The app as its command names it; NULL where it names none, as run_due.';
COMMENT ON COLUMN hotmesh_dba.schedules.policy IS 'The policy that it runs; NULL where it runs none, or all that are due.';
COMMENT ON COLUMN hotmesh_dba.schedules.cron_expression IS 'When: minute, hour, day of the month, month, day of the week.';
COMMENT ON COLUMN hotmesh_dba.schedules.role IS 'As whom it runs.';
COMMENT ON COLUMN hotmesh_dba.schedules.database IS 'In which database.';
COMMENT ON COLUMN hotmesh_dba.schedules.active IS 'Whether pg_cron runs it.';
COMMENT ON COLUMN hotmesh_dba.schedules.last_started IS 'When it last began; NULL where it never did, or pg_cron keeps no record.';
COMMENT ON COLUMN hotmesh_dba.schedules.last_finished IS 'When that ended.';
COMMENT ON COLUMN hotmesh_dba.schedules.last_status IS 'starting, running, succeeded or failed, as pg_cron says; NULL where it never ran, or not among its last 10,000.';
COMMENT ON COLUMN hotmesh_dba.schedules.last_message IS 'What the server said: CALL, or the error.';
