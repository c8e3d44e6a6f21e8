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

CREATE OR REPLACE FUNCTION hotmesh_dba._owner(app name) RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT c.relowner FROM pg_class c WHERE c.oid = hotmesh_dba._jobs(app) $$;

-- Is the caller a superuser, and the app not wholly superusers'? Whoever owns one of its tables or partitions may have put
-- code on it (an index on a function, a type of his own, a trigger), whoever owns the schema may put another table in its
-- place, and whoever reads or changes these executes that code with his own rights. So a superuser goes near them only where
-- the app is named, or its owner is said to be trusted. Of what is no app (any more) nobody knows whose it will be.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_foreign(app name) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pg_roles me WHERE me.rolname = current_user AND me.rolsuper)
       AND (hotmesh_dba._jobs(app) IS NULL
            OR EXISTS (SELECT FROM (SELECT n.nspowner AS owner FROM pg_namespace n WHERE n.nspname = app
                                    UNION
                                    SELECT c.relowner
                                    FROM hotmesh_dba._app_tables(app) a, hotmesh_dba._tree(a) t
                                    JOIN pg_class c ON c.oid = t) o
                       JOIN pg_roles r ON r.oid = o.owner
                       WHERE NOT r.rolsuper));
END
$$;

-- An app's owner speaks for his own tables: one that somebody else has put beside or under them is not his to have pruned.
-- (A superuser has a say in everything; of his app, what is not a superuser's is somebody else's.)
CREATE OR REPLACE FUNCTION hotmesh_dba._check_steps_owner(app_schema name, steps hotmesh_dba._step[]) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owner oid := hotmesh_dba._owner(app_schema);
    v_table pg_class;
BEGIN
    SELECT c.* INTO v_table
    FROM unnest(steps) s, LATERAL (VALUES (s.relation), (s.attributes)) r (root), hotmesh_dba._tree(r.root) t
    JOIN pg_class c ON c.oid = t
    JOIN pg_roles theirs ON theirs.oid = c.relowner
    JOIN pg_roles own ON own.oid = v_owner
    WHERE r.root IS NOT NULL AND (NOT pg_has_role(v_owner, c.relowner, 'USAGE') OR own.rolsuper AND NOT theirs.rolsuper)
    ORDER BY s.ordinal, c.oid
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'permission denied for table %', v_table.oid::regclass
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('It belongs to "%s", and app "%s" to "%s", who has no say in it. Nothing was changed.',
                                  pg_get_userbyid(v_table.relowner), app_schema, pg_get_userbyid(v_owner)),
                  HINT = format('ALTER TABLE %s OWNER TO %I;', v_table.oid::regclass, pg_get_userbyid(v_owner));
    END IF;
END
$$;
