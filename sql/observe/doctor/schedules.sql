-- doctor: what pg_cron does in this database.

-- The schedules of an app, as their commands name it; or (NULL) those that name none that there is.
CREATE OR REPLACE FUNCTION hotmesh_dba._schedules_of(app_schema name) RETURNS SETOF hotmesh_dba.schedules
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.*
    FROM hotmesh_dba.schedules s
    LEFT JOIN hotmesh_dba.app a ON a.schema = s.app OR a.schema = hotmesh_dba._normalised(s.app)
    WHERE a.schema IS NOT DISTINCT FROM app_schema
$$;

-- Of an app, or (NULL) those that serve no app in particular.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_schedules(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN s.active AND s.last_status = 'failed' THEN 'problem' ELSE 'warning' END,
           format('Schedule "%s" (%s) %s.', s.job_name, s.cron_expression,
                  CASE WHEN NOT s.active THEN 'is switched off'
                       WHEN s.last_started IS NULL THEN 'never ran'
                       ELSE format('failed when it last ran (%s): %s', date_trunc('second', s.last_started), rtrim(s.last_message)) END),
           CASE WHEN NOT s.active AND s.policy IS NOT NULL AND s.role = current_user    -- alter_job is the superusers'
                THEN format(E'SELECT * FROM hotmesh_dba.unschedule(%1$L, %2$L);\nSELECT * FROM hotmesh_dba.schedule(%1$L, %2$L, %3$L);',
                            app_schema, s.policy, s.cron_expression)
                WHEN NOT s.active THEN format('SELECT cron.alter_job(%s, active => true);', s.job_id)
                WHEN s.last_started IS NULL
                THEN 'Wait for its time; else see that the log has no error of pg_cron, and that its role may connect.'
                ELSE format('SELECT * FROM cron.job_run_details WHERE jobid = %s ORDER BY runid DESC;', s.job_id) END
    FROM hotmesh_dba._schedules_of(app_schema) s
    WHERE (NOT s.active OR s.last_started IS NULL OR s.last_status = 'failed')
    UNION ALL
    SELECT 'unknown', format('Role "%s" may not see the schedules of pg_cron.', current_user),
           format('GRANT USAGE ON SCHEMA cron TO %I;', current_user)
    FROM pg_namespace n
    WHERE n.nspname = 'cron' AND NOT has_schema_privilege(n.oid, 'USAGE') AND hotmesh_dba._cron_is_here()
$$;

-- The app's owner could put a trigger or function in the way, and a superuser's job would execute it.
CREATE OR REPLACE FUNCTION hotmesh_dba._doctor_schedule_roles(app_schema name) RETURNS SETOF hotmesh_dba._finding
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'problem',
           format('Schedule "%s" runs as "%s", a superuser, what belongs to "%s": whatever that role has put on its tables would be executed with all rights.',
                  s.job_name, s.role, o.rolname),
           CASE WHEN NOT o.rolcanlogin THEN format(E'ALTER ROLE %I LOGIN;\n', o.rolname) ELSE '' END
           || format('UPDATE cron.job SET username = %L WHERE jobid = %s;', o.rolname, s.job_id)
    FROM hotmesh_dba._schedules_of(app_schema) s
    JOIN hotmesh_dba._schedules() j ON j.job_id = s.job_id
    JOIN pg_roles r ON r.rolname = s.role AND r.rolsuper
    CROSS JOIN LATERAL (SELECT w.*
                        FROM hotmesh_dba.app a
                        JOIN pg_roles w ON w.rolname = a.owner AND NOT w.rolsuper
                        WHERE app_schema IS NULL OR a.schema = app_schema
                        ORDER BY a.schema LIMIT 1) o
    -- Of itself run_due leaves others' apps alone.
    WHERE NOT (j.command ~* '[[:<:]]run_due[[:>:]]' AND j.command !~* 'trust_owners|true')
$$;
