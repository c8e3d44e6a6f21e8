CREATE OR REPLACE FUNCTION hotmesh_dba.version() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT '@version@'::text $$;

COMMENT ON FUNCTION hotmesh_dba.version() IS
'The version of the installed routines, also where they were installed without CREATE EXTENSION.';
