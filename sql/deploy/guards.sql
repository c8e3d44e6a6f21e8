-- An overload of unknown origin is nobody's to drop, and with it in place the documented calls stay ambiguous.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_unknown_overloads(app_schema name) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_overload regprocedure;
BEGIN
    SELECT o.overload INTO v_overload FROM hotmesh_dba._overloads(app_schema) o WHERE o.kind = 'unknown' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'routine % would make calls of prune ambiguous', v_overload
            USING ERRCODE = 'ambiguous_function',
                  DETAIL = 'No release of HotMesh made it, so deploy does not drop it; nothing was changed.',
                  HINT = format('ALTER ROUTINE %s RENAME TO prune_old;', v_overload);
    END IF;
END
$$;

-- Other objects that use a function which is about to be dropped.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_dependents(overload regprocedure) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_dependents text;
BEGIN
    SELECT string_agg(DISTINCT coalesce(pg_describe_object('pg_class'::regclass, r.ev_class, 0),
                                        pg_describe_object(d.classid, d.objid, d.objsubid)), ', ')
    INTO v_dependents
    FROM pg_depend d
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid   -- a view hangs on by its rule
    WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = overload AND d.deptype = 'n';
    IF v_dependents IS NOT NULL THEN
        RAISE EXCEPTION 'cannot drop function %: other objects depend on it', overload
            USING ERRCODE = 'dependent_objects_still_exist',
                  DETAIL = format('These do: %s. Nothing was changed.', v_dependents),
                  HINT = format('Drop them, or change them to call %s another way, then try again.', overload);
    END IF;
END
$$;

-- Whoever deploys or undeploys acts for the owner of the app's tables, who owns the wrapper.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_deployer(app_schema name, doing text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_owner    name := pg_get_userbyid(hotmesh_dba._owner(app_schema));
    v_role     name;
    v_foreign  pg_roles;
    v_overload regprocedure;
BEGIN
    PERFORM hotmesh_dba._check_owner(app_schema, doing);
    -- To give a function to a role, that role too must be able to create it.
    FOREACH v_role IN ARRAY ARRAY[v_owner, current_user] LOOP
        IF NOT has_schema_privilege(v_role, app_schema, 'CREATE') THEN
            PERFORM hotmesh_dba._raise_not_owner(app_schema, doing,
                format('Role "%s" lacks CREATE on the schema.', v_role),
                format('GRANT CREATE ON SCHEMA %I TO %I;', app_schema, v_role));
        END IF;
    END LOOP;
    SELECT o.overload INTO v_overload
    FROM hotmesh_dba._overloads(app_schema) o
    JOIN pg_proc p ON p.oid = o.overload
    WHERE NOT pg_has_role(p.proowner, 'USAGE')
    LIMIT 1;
    IF FOUND THEN
        SELECT r.* INTO v_foreign FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.oid = v_overload;
        PERFORM hotmesh_dba._raise_not_owner(app_schema, doing,
            format('A function prune there belongs to "%s".', v_foreign.rolname),
            CASE WHEN NOT v_foreign.rolsuper THEN format('GRANT %I TO %I; or ', v_foreign.rolname, current_user) ELSE '' END
            || format('as its owner: ALTER FUNCTION %s OWNER TO %I;', v_overload, v_owner));
    END IF;
END
$$;

-- Where the routines were installed without CREATE EXTENSION, they belong to the role that did it, and it can
-- replace them: it is trusted by every app that is deployed. Another owner's app is taken only on its word.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_trust(app_schema name, trust_installer boolean) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_installer pg_roles;
    v_owner     oid := hotmesh_dba._owner(app_schema);
BEGIN
    SELECT r.* INTO v_installer
    FROM pg_proc p
    JOIN pg_roles r ON r.oid = p.proowner
    WHERE p.oid = hotmesh_dba._prune_oid();
    IF trust_installer OR v_installer.rolsuper OR v_installer.oid = v_owner THEN
        RETURN;
    END IF;
    PERFORM hotmesh_dba._raise_not_owner(app_schema, 'deploy',
        format('The routines of hotmesh_dba belong to "%s", who could change what prune does to the tables of "%s".',
               v_installer.rolname, pg_get_userbyid(v_owner)),
        format('If "%s" may: SELECT * FROM hotmesh_dba.deploy(%L, trust_installer => true);',
               v_installer.rolname, app_schema));
END
$$;
