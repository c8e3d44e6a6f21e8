-- A policy is its app's owner's: whoever is a member of that role sees, sets, drops and runs it, and nobody else.

-- This very database: an oid means nothing in a restored copy of it, where another schema may have it.
CREATE OR REPLACE FUNCTION hotmesh_dba._origin() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format('%s.%s.%s', (SELECT s.system_identifier FROM pg_control_system() s),
                  (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()), 'hotmesh_dba.policy'::regclass::oid);
EXCEPTION WHEN insufficient_privilege THEN
    RETURN 'unknown';
END
$$;

-- The app that a policy was set for, by its present name: never another one that has taken the name since. NULL where it is
-- gone. In a restored copy the names count, the app's and its owner's.
CREATE OR REPLACE FUNCTION hotmesh_dba._policy_app(policy hotmesh_dba.policy) RETURNS name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN policy.origin = hotmesh_dba._origin() AND policy.origin <> 'unknown'
                THEN (SELECT n.nspname FROM pg_namespace n WHERE n.oid = policy.app_oid)
                WHEN pg_get_userbyid(hotmesh_dba._owner(policy.app)) = policy.role THEN policy.app END
$$;

-- One whose app is gone is still its author's, to see and to drop.
CREATE OR REPLACE FUNCTION hotmesh_dba._may_see_policy(policy hotmesh_dba.policy) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN hotmesh_dba._jobs(a.app) IS NOT NULL THEN hotmesh_dba._owns_app(a.app)
                ELSE EXISTS (SELECT FROM pg_roles r WHERE r.rolname = policy.role AND pg_has_role(r.oid, 'USAGE')) END
    FROM (SELECT hotmesh_dba._policy_app(policy) AS app) a
$$;

DROP POLICY IF EXISTS of_the_owner ON hotmesh_dba.policy;
CREATE POLICY of_the_owner ON hotmesh_dba.policy
    USING (hotmesh_dba._may_see_policy(policy))
    WITH CHECK (role = pg_catalog.pg_get_userbyid(owner) AND hotmesh_dba._owns_app(app) AND hotmesh_dba._owns_app(hotmesh_dba._policy_app(policy))
                AND owner = hotmesh_dba._owner(app));
