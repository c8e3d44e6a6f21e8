-- doctor: what holds the horizon back, so that rows go and space does not.

CREATE OR REPLACE FUNCTION hotmesh_dba._may_see_sessions() RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'unknown', format('Role "%s" sees only its own sessions.', current_user),
           format('GRANT pg_read_all_stats TO %I;', current_user)
    WHERE NOT pg_has_role('pg_read_all_stats', 'USAGE')
$$;

-- From what age on a transaction counts as old.
CREATE OR REPLACE FUNCTION hotmesh_dba._old_transaction() RETURNS interval
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(nullif(current_setting('hotmesh_dba.old_transaction', true), ''), '10 minutes')::interval $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_old_transactions(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN a.xact_start < now() - interval '1 hour' THEN 'problem' ELSE 'warning' END,
           format('Process %s (role "%s", %s) has held a snapshot since %s: what was removed since then keeps its space.',
                  a.pid, a.usename, coalesce(a.state, a.backend_type), date_trunc('second', a.xact_start)),
           format('SELECT pg_terminate_backend(%s);', a.pid)
    FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type <> 'autovacuum worker'
      AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)    -- nobody's horizon waits for a VACUUM
      AND coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL
      AND a.xact_start < clock_timestamp() - hotmesh_dba._old_transaction()
    UNION ALL
    SELECT f.* FROM hotmesh_dba._may_see_sessions() f
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_prepared_transactions(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN p.prepared < now() - interval '1 hour' THEN 'problem' ELSE 'warning' END,
           format('Transaction %L of role "%s" was prepared on %s, and neither committed nor rolled back.',
                  p.gid, p.owner, date_trunc('second', p.prepared)),
           format('ROLLBACK PREPARED %L;', p.gid)
    FROM pg_prepared_xacts p
    WHERE p.database = current_database() AND p.prepared < clock_timestamp() - hotmesh_dba._old_transaction()
$$;

-- One that nobody reads from keeps rows (xmin), and all WAL since.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_replication_slots(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN s.xmin IS NOT NULL THEN 'problem' ELSE 'warning' END,
           format('Nobody reads from replication slot "%s", which keeps %s.', s.slot_name,
                  CASE WHEN s.xmin IS NOT NULL THEN 'removed rows and their WAL' ELSE 'the WAL of every removal' END),
           format('SELECT pg_drop_replication_slot(%L);', s.slot_name)
    FROM pg_replication_slots s
    WHERE NOT s.active AND (s.xmin IS NOT NULL OR s.restart_lsn IS NOT NULL)
$$;

-- A standby that asks for old rows. In transactions, for nobody knows since when.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_standby_feedback(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'warning',
           format('Standby "%s" asks by hot_standby_feedback for rows of %s transactions ago: a long query there keeps their space.',
                  r.application_name, f.age),
           'On that standby, end the query that pg_stat_activity shows with the oldest backend_xmin: SELECT pg_terminate_backend(pid);'
    FROM pg_stat_replication r
    LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
    CROSS JOIN LATERAL (SELECT age(coalesce(s.xmin, r.backend_xmin)) AS age) f
    WHERE f.age > coalesce(nullif(current_setting('hotmesh_dba.old_xid_age', true), ''), '1000000')::int
    UNION ALL
    SELECT f.* FROM hotmesh_dba._may_see_sessions() f
$$;
