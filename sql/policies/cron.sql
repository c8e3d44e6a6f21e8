-- pg_cron. Its job runs as whoever it belongs to, one statement by itself: the bare CALL that can COMMIT.

CREATE OR REPLACE FUNCTION hotmesh_dba._job_name(app name, policy_name text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('hotmesh_dba %s %s', app, policy_name) $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._cron_is_here() RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') $$;

-- The one database of the cluster in which pg_cron keeps its jobs; '' where we may not know; NULL where there is none.
CREATE OR REPLACE FUNCTION hotmesh_dba._cron_database() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN current_setting('cron.database_name', true);
EXCEPTION WHEN insufficient_privilege THEN
    RETURN '';
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_cron() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF hotmesh_dba._cron_is_here() THEN
        IF NOT has_schema_privilege('cron', 'USAGE') THEN
            RAISE EXCEPTION 'permission denied for schema cron'
                USING ERRCODE = 'insufficient_privilege',
                      DETAIL = format('Role "%s" lacks USAGE on the schema of pg_cron. Nothing was changed.', current_user),
                      HINT = format('GRANT USAGE ON SCHEMA cron TO %I;', current_user);
        END IF;
    ELSIF hotmesh_dba._cron_database() IS NULL THEN
        RAISE EXCEPTION 'pg_cron is not installed'
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = 'The server does not load it. Nothing was changed.',
                  HINT = 'Add pg_cron to shared_preload_libraries and restart; or let another scheduler call: CALL hotmesh_dba.run_due();';
    ELSIF hotmesh_dba._cron_database() = current_database() THEN
        RAISE EXCEPTION 'pg_cron is not installed in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'The server keeps its jobs in this database, where the extension is missing. Nothing was changed.',
                  HINT = 'CREATE EXTENSION pg_cron;';
    END IF;
END
$$;

-- Five fields, a name such as @hourly, or seconds: what pg_cron says of it where it is in reach, else we.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_cron_expression(cron_expression text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (cron_expression ~ '^[[:space:]]*(@[a-z]+|[0-9]+ seconds?|[0-9*/,$A-Za-z-]+([[:space:]]+[0-9*/,$A-Za-z-]+){4})[[:space:]]*$') IS NOT TRUE THEN
        RAISE EXCEPTION 'invalid schedule: %', coalesce(quote_literal(cron_expression), 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'A cron expression has five fields: minute, hour, day of the month, month, day of the week.',
                  HINT = 'Write for example ''0 2 * * *'' (nightly at two) or ''*/15 * * * *''.';
    END IF;
END
$$;

-- As whom the job should run: not a superuser where the app is somebody else's, for what it runs is the owner's to change.
CREATE OR REPLACE FUNCTION hotmesh_dba._job_role(app name) RETURNS name
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owner pg_roles := (SELECT r FROM pg_roles r WHERE r.oid = hotmesh_dba._owner(app));
BEGIN
    IF NOT hotmesh_dba._is_foreign(app) THEN
        RETURN current_user;
    ELSIF NOT v_owner.rolcanlogin THEN
        RAISE EXCEPTION 'role "%" cannot log in', v_owner.rolname
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It owns app "%s"; a job of pg_cron logs in, and as a superuser it would execute whatever that role has put on its tables. Nothing was changed.', app),
                  HINT = format('ALTER ROLE %I LOGIN; or call it as a member of that role.', v_owner.rolname);
    END IF;
    RETURN v_owner.rolname;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._call_cron(statement text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_detail text;
    v_hint   text;
BEGIN
    EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
    RAISE EXCEPTION '%', SQLERRM
        USING ERRCODE = SQLSTATE,
              DETAIL = coalesce(nullif(v_detail, ''), 'pg_cron refused: ' || statement),
              HINT = coalesce(nullif(v_hint, ''),
                              'A cron expression has five fields, such as ''0 2 * * *''; SELECT * FROM hotmesh_dba.schedules;');
END
$$;
