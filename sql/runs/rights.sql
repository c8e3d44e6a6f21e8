-- Whoever may delete an app's jobs sees and writes the records of its runs, and nobody else.
CREATE OR REPLACE FUNCTION hotmesh_dba._may_prune(app name) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT has_table_privilege(c.oid, 'DELETE')
                     FROM pg_class c
                     JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname = _may_prune.app AND c.relname = 'jobs'), false)
$$;

DROP POLICY IF EXISTS may_prune ON hotmesh_dba.run;
CREATE POLICY may_prune ON hotmesh_dba.run USING (hotmesh_dba._may_prune(app)) WITH CHECK (hotmesh_dba._may_prune(app));
