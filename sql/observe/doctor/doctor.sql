-- The checks one after the other, each by itself.

-- Of which kind a check is: of the database, of each app, or of both; whether only an app's owner can know; and whether it
-- reads the app's tables.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_checks()
RETURNS TABLE (name text, of_database boolean, of_app boolean, owners boolean, reads boolean, healthy text)
LANGUAGE sql IMMUTABLE ROWS 20
SET search_path = pg_catalog, pg_temp
AS $$
    VALUES ('extension',             true,  false, false, false, 'As new as its files.'),
           ('autovacuum',            true,  false, false, false, 'On.'),
           ('lock_table',            true,  false, false, false, 'Large enough.'),
           ('old_transactions',      true,  false, false, false, 'None.'),
           ('prepared_transactions', true,  false, false, false, 'None.'),
           ('replication_slots',     true,  false, false, false, 'None that nobody reads from.'),
           ('standby_feedback',      true,  false, false, false, 'No standby holds back much.'),
           ('schedules',             true,  true,  false, false, 'None that fails, never ran or is switched off.'),
           ('schedule_roles',        true,  true,  false, false, 'No superuser''s.'),
           ('wrapper',               false, true,  false, false, 'The app''s function prune is ours.'),
           ('migration',             false, true,  false, false, 'Column and index pruned_at are in place.'),
           ('foreign_key_index',     false, true,  false, false, 'Attributes are found by their job.'),
           ('privileges',            false, true,  false, false, 'You may prune.'),
           ('row_security',          false, true,  false, false, 'Not in the way.'),
           ('disable_triggers',      false, true,  true,  false, 'Possible for you.'),
           ('coverage',              false, true,  true,  false, 'Something takes rows of every table that has many.'),
           ('unrun_policies',        false, true,  true,  false, 'Every enabled policy is run.'),
           ('last_runs',             false, true,  true,  false, 'None that failed.'),
           ('backlog',               false, true,  true,  true,  'Nothing has been due for long.'),
           ('conflicts',             false, true,  true,  false, 'No two policies take the same rows in different ways.'),
           ('table_autovacuum',      false, true,  false, false, 'On for every table.'),
           ('dead_rows',             false, true,  false, false, 'Not more than autovacuum lets be.'),
           ('vacuum_threshold',      false, true,  false, false, 'Fine enough.')
$$;

-- What a check says of an app, or (NULL) of the database. Whatever keeps it from saying anything makes it unknown.
CREATE OR REPLACE FUNCTION hotmesh_dba._run_check(check_name text, app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_finding hotmesh_dba._finding;
    v_hint    text;
BEGIN
    PERFORM hotmesh_dba._bound_waiting(clock_timestamp() - interval '0.3 s');
    FOR v_finding IN EXECUTE format('SELECT f.* FROM hotmesh_dba.%I($1) f', '_doctor_' || check_name) USING app_schema LOOP
        RETURN NEXT v_finding;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS v_hint = PG_EXCEPTION_HINT;
    v_finding := ('unknown', format('It could not be checked: %s (%s).', SQLERRM, SQLSTATE), nullif(v_hint, ''));
    RETURN NEXT v_finding;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._owners_only(app_schema name) RETURNS hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'unknown', format('Only members of "%s", the app''s owner, see its policies.', r.rolname),
           CASE WHEN r.rolsuper THEN format('SET ROLE %I;', r.rolname) ELSE format('GRANT %I TO %I;', r.rolname, current_user) END
    FROM pg_roles r
    WHERE r.oid = hotmesh_dba._owner(app_schema)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._named_only(app_schema name) RETURNS hotmesh_dba._finding
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'unknown',
           format('A superuser reads tables of "%s" only where the app is named: whatever that role has put on them is executed by whoever reads them.',
                  pg_get_userbyid(hotmesh_dba._owner(app_schema))),
           format('SELECT * FROM hotmesh_dba.doctor(%L);', app_schema)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba.doctor(app_id text DEFAULT NULL)
RETURNS TABLE (app name, check_name text, status text, detail text, hint text)
LANGUAGE plpgsql VOLATILE ROWS 40
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_check   record;
    v_is_ok   boolean;
    v_apps    name[] := ARRAY(SELECT a FROM hotmesh_dba._observed_apps(app_id) a);
BEGIN
    FOREACH app IN ARRAY NULL::name || v_apps LOOP
        FOR v_check IN SELECT c.* FROM hotmesh_dba._doctor_checks() c WHERE CASE WHEN app IS NULL THEN c.of_database ELSE c.of_app END LOOP
            check_name := v_check.name;
            IF v_check.owners AND NOT hotmesh_dba._owns_app(app) THEN
                SELECT f.* INTO status, detail, hint FROM hotmesh_dba._owners_only(app) f;
                RETURN NEXT;
                CONTINUE;
            ELSIF v_check.reads AND app_id IS NULL AND hotmesh_dba._is_foreign(app) THEN
                SELECT f.* INTO status, detail, hint FROM hotmesh_dba._named_only(app) f;
                RETURN NEXT;
                CONTINUE;
            END IF;
            v_is_ok := true;
            FOR status, detail, hint IN SELECT f.* FROM hotmesh_dba._run_check(v_check.name, app) f LOOP
                v_is_ok := false;
                RETURN NEXT;
            END LOOP;
            IF v_is_ok THEN
                status := 'ok'; detail := v_check.healthy; hint := NULL;
                RETURN NEXT;
            END IF;
        END LOOP;
    END LOOP;
END
$$;

COMMENT ON FUNCTION hotmesh_dba.doctor(text) IS
'Looks for whatever keeps finished work from going away. Changes nothing. As a superuser it reads other owners'' tables only where the app is named.
app_id (NULL: every app of this database): the app (see view hotmesh_dba.app).
Returns a row a check, more where it finds several things: app (NULL: of the whole database); check_name; status: ok, warning, problem, or unknown where you may not look; detail; hint: what to type.
Of pg_cron it sees the schedules of this database alone.
Settings: hotmesh_dba.old_transaction (10 minutes): from what age on a transaction is old; hotmesh_dba.old_xid_age (1000000): of how many transactions ago a standby may ask for rows.
Errors: 42602 3F000 42809 bad app.';
