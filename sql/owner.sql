-- Whose an app is: the role's that owns its table jobs, and of whoever is a member of that role.

CREATE OR REPLACE FUNCTION hotmesh_dba._owner(app name) RETURNS oid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN (SELECT c.relowner FROM pg_class c WHERE c.oid = hotmesh_dba._jobs(app)); END $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._owns_app(app name) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(pg_has_role(hotmesh_dba._owner(app), 'USAGE'), false) $$;

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
    SELECT r.* INTO v_owner FROM pg_roles r WHERE r.oid = hotmesh_dba._owner(app_schema);
    PERFORM hotmesh_dba._raise_not_owner(app_schema, doing,
        format('The app''s tables belong to "%s", whose rights role "%s" does not have.', v_owner.rolname, current_user),
        hotmesh_dba._owner_hint(v_owner));
END
$$;

-- Whoever may have put code on an app's tables (an index on a function, a type of his own, a trigger), that whoever reads or
-- changes them executes with his own rights: the owners of its tables and partitions, and of the schema, who may put another
-- table in one's place; those of functions that hang there already; and whoever may add a trigger.
CREATE OR REPLACE FUNCTION hotmesh_dba._authors_of_code(app name) RETURNS SETOF oid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tables oid[] := ARRAY(SELECT t::oid FROM hotmesh_dba._app_tables(app) a, hotmesh_dba._tree(a) t);
BEGIN
    RETURN QUERY
        SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = app
        UNION
        SELECT c.relowner FROM pg_class c WHERE c.oid = ANY (v_tables)
        UNION
        SELECT p.proowner FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = ANY (v_tables)
        UNION
        SELECT p.proowner
        FROM pg_index i
        JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refclassid = 'pg_proc'::regclass
        JOIN pg_proc p ON p.oid = d.refobjid
        WHERE i.indrelid = ANY (v_tables)
        UNION
        SELECT g.grantee FROM pg_class c, aclexplode(c.relacl) g WHERE c.oid = ANY (v_tables) AND g.privilege_type = 'TRIGGER';
END
$$;

-- Is the caller a superuser, and the app not wholly superusers'? Then he goes near its tables only where it is named, or its
-- owner is said to be trusted. Of what is no app (any more) nobody knows whose it will be.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_foreign(app name) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pg_roles me WHERE me.rolname = current_user AND me.rolsuper)
       AND (hotmesh_dba._jobs(app) IS NULL
            OR EXISTS (SELECT FROM hotmesh_dba._authors_of_code(app) o
                       WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = o AND r.rolsuper)));
END
$$;

-- Has an app's owner a say in a table of another role's? In a partition, whoever's it is: he deletes its rows through the
-- parent. A superuser has a say in everything; of his app, what is not a superuser's is somebody else's.
CREATE OR REPLACE FUNCTION hotmesh_dba._speaks_for(owner oid, other oid, of_partition boolean) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN owner = other
        OR (of_partition OR pg_has_role(owner, other, 'USAGE'))
       AND NOT EXISTS (SELECT FROM pg_roles o, pg_roles t WHERE o.oid = owner AND t.oid = other AND o.rolsuper AND NOT t.rolsuper);
END
$$;

-- An app's owner speaks for his own tables: one that somebody else has put beside or under them is not his to have pruned.
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
    WHERE r.root IS NOT NULL AND NOT hotmesh_dba._speaks_for(v_owner, c.relowner, c.relispartition)
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
