-- Whose an app is: the role's that owns its table jobs, and of whoever is a member of that role.

CREATE OR REPLACE FUNCTION hotmesh_dba._owns_app(app name, role name DEFAULT current_user) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_class c
                   JOIN pg_roles r ON r.rolname = _owns_app.role
                   WHERE c.oid = hotmesh_dba._jobs(_owns_app.app) AND pg_has_role(r.oid, c.relowner, 'USAGE'))
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._raise_not_owner(app_schema name, doing text, detail text, hint text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'permission denied to % app "%"', doing, app_schema
        USING ERRCODE = 'insufficient_privilege', DETAIL = detail || ' Nothing was changed.', HINT = hint;
END
$$;

-- How to become one who may. No hint gives away the role of a superuser.
CREATE OR REPLACE FUNCTION hotmesh_dba._owner_hint(owner pg_roles) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN owner.rolsuper THEN format('Call it as that role, or after SET ROLE %I;', owner.rolname)
                ELSE format('SET ROLE %I; or: GRANT %1$I TO %I;', owner.rolname, current_user) END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_owner(app_schema name, doing text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owner pg_roles;
BEGIN
    IF hotmesh_dba._owns_app(app_schema) THEN
        RETURN;
    END IF;
    SELECT r.* INTO v_owner FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE c.oid = hotmesh_dba._jobs(app_schema);
    PERFORM hotmesh_dba._raise_not_owner(app_schema, doing,
        format('The app''s tables belong to "%s", whose rights role "%s" does not have.', v_owner.rolname, current_user),
        hotmesh_dba._owner_hint(v_owner));
END
$$;
