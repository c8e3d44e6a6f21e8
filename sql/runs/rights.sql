-- Whoever may delete an app's jobs, or may give himself the right to, sees and writes the records of its runs, and
-- nobody else.
CREATE OR REPLACE FUNCTION hotmesh_dba._may_prune(app name) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT has_table_privilege(c.oid, 'DELETE') OR pg_has_role(c.relowner, 'USAGE')
                     FROM pg_class c
                     JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname = _may_prune.app AND c.relname = 'jobs'), false)
$$;

-- A policy whose app is gone fails, and whoever set it is told so by a record.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_a_lost_apps(app name, role name, policy text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT policy IS NOT NULL AND hotmesh_dba._jobs(app) IS NULL
       AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role AND pg_has_role(r.oid, 'USAGE'))
$$;

DROP POLICY IF EXISTS may_prune ON hotmesh_dba.run;
CREATE POLICY may_prune ON hotmesh_dba.run
    USING (hotmesh_dba._may_prune(app) OR hotmesh_dba._is_a_lost_apps(app, role, policy))
    WITH CHECK (hotmesh_dba._may_prune(app)
                OR state = 'failed' AND hotmesh_dba._is_a_lost_apps(app, role, policy));

-- A run whose app is renamed or dropped under it may still close its record, where no app has that name now.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_ours_alone(app name, role name, pid int) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT role = current_user AND pid = pg_backend_pid()
       AND NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = _is_ours_alone.app)
$$;

DROP POLICY IF EXISTS lost_app_seen ON hotmesh_dba.run;
DROP POLICY IF EXISTS lost_app_closed ON hotmesh_dba.run;
CREATE POLICY lost_app_seen ON hotmesh_dba.run FOR SELECT USING (hotmesh_dba._is_ours_alone(app, role, pid));
CREATE POLICY lost_app_closed ON hotmesh_dba.run FOR UPDATE
    USING (hotmesh_dba._is_ours_alone(app, role, pid)) WITH CHECK (hotmesh_dba._is_ours_alone(app, role, pid));
