-- A table of an app, or NULL where it is missing or lacks one of the columns (then it is somebody else's).
-- PL/pgSQL, as whatever is called again and again: it plans its statement once a session, a SQL function with every call.
CREATE OR REPLACE FUNCTION hotmesh_dba._table(app_schema name, table_name name, columns name[])
RETURNS regclass
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_table regclass;
BEGIN
    SELECT c.oid::regclass INTO v_table
    FROM pg_class c
    WHERE c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = _table.app_schema)
      AND c.relname = _table.table_name
      AND c.relkind IN ('r', 'p')
      AND (SELECT count(*)
           FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attname = ANY (_table.columns) AND NOT a.attisdropped)
          = cardinality(_table.columns);
    RETURN v_table;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._jobs(app_schema name) RETURNS regclass
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN hotmesh_dba._table(app_schema, 'jobs', '{id,key,status,expired_at}'); END $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._attributes(app_schema name) RETURNS regclass
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN hotmesh_dba._table(app_schema, 'jobs_attributes', '{job_id,type}'); END $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._is_migrated(app_schema name) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN hotmesh_dba._table(app_schema, 'jobs', '{pruned_at}') IS NOT NULL; END $$;

-- A table with all its partitions. Not by pg_partition_tree: it waits for whoever has locked one of them.
CREATE OR REPLACE FUNCTION hotmesh_dba._tree(root regclass) RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE tree AS (
        SELECT root AS relation
        UNION ALL
        SELECT h.inhrelid::regclass FROM pg_inherits h JOIN tree t ON h.inhparent = t.relation
    )
    SELECT t.relation FROM tree t
$$;

-- Installed by CREATE EXTENSION? A plain install has no such row, and its routines belong to a common role.
CREATE OR REPLACE FUNCTION hotmesh_dba._extension() RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT e.oid FROM pg_extension e WHERE e.extname = 'hotmesh_dba' $$;

-- Does deleting a job surely take its attributes along? Not so in a session that skips triggers, nor after
-- an interrupted pg_restore that left the foreign key's triggers disabled (seen: every attribute an orphan).
CREATE OR REPLACE FUNCTION hotmesh_dba._cascade_is_intact(jobs regclass, attributes regclass)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_keys  oid[];      -- those of one level: the table's, its partitions', theirs
    v_all   oid[] := '{}';
    v_sound boolean;
BEGIN
    SELECT array_agg(c.oid), count(*) = 1 AND bool_and(c.confdeltype = 'c' AND c.convalidated)
    INTO v_keys, v_sound
    FROM pg_constraint c
    WHERE c.contype = 'f' AND c.conrelid = attributes AND c.confrelid = jobs AND c.conparentid = 0;
    WHILE v_sound AND v_keys IS NOT NULL LOOP
        v_all := v_all || v_keys;
        SELECT array_agg(c.oid), coalesce(bool_and(c.confdeltype = 'c' AND c.convalidated), true)
        INTO v_keys, v_sound
        FROM pg_constraint c
        WHERE c.conparentid = ANY (v_keys);
    END LOOP;
    RETURN v_sound
       AND current_setting('session_replication_role') <> 'replica'
       AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgconstraint = ANY (v_all) AND t.tgenabled NOT IN ('O', 'A'));
END
$$;

-- The indexes that the strip wants on an app's jobs, in the order in which deploy makes them: HotMesh's own, and one of
-- ours. HotMesh's holds every running and failed job as well: beside 500,000 of them a strip that finds nothing due
-- costs the whole run seven times as much. Ours holds the jobs that are due and no others; its key is of no account.
CREATE OR REPLACE FUNCTION hotmesh_dba._strip_indexes()
RETURNS TABLE (kind text, key name, definition text, columns name[], predicate text)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    VALUES ('pruned_at', 'pruned_at'::name, '(pruned_at) WHERE pruned_at IS NULL', '{pruned_at}'::name[],
            '^{NULLTEST :arg {VAR [^{}]*:varattno %s [^{}]*} :nulltesttype 0 [^{}]*}$'),
           ('unstripped', 'id', '(id) WHERE status = 0 AND is_live AND pruned_at IS NULL', '{status,is_live,pruned_at}',
            '^{BOOLEXPR :boolop and :args [(]{OPEXPR .*:varattno %s .*} {VAR [^{}]*:varattno %s [^{}]*} '
            '{NULLTEST :arg {VAR [^{}]*:varattno %s [^{}]*} :nulltesttype 0 [^{}]*}[)] [^{}]*}$')
$$;

-- The index of that kind of a table, whatever its name; one that is not valid is a build that was broken off, or one on
-- a partitioned table that waits for its parts. Read off the catalogue as it stands there, with the numbers of the columns
-- of that predicate: pg_get_expr and pg_get_indexdef would wait for whoever has locked the table.
CREATE OR REPLACE FUNCTION hotmesh_dba._strip_index(relation regclass, kind text, valid boolean DEFAULT true) RETURNS regclass
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT i.indexrelid::regclass
            FROM hotmesh_dba._strip_indexes() w
            JOIN pg_index i ON i.indrelid = relation AND i.indisvalid = valid AND i.indnkeyatts = 1 AND i.indpred IS NOT NULL
            JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
            JOIN pg_attribute k ON k.attrelid = relation AND k.attnum = i.indkey[0] AND k.attname = w.key
            WHERE w.kind = _strip_index.kind
              AND i.indpred::text ~ format(w.predicate, VARIADIC ARRAY(
                      SELECT coalesce(a.attnum, 0)::text
                      FROM unnest(w.columns) WITH ORDINALITY n (name, place)
                      LEFT JOIN pg_attribute a ON a.attrelid = relation AND a.attname = n.name
                      ORDER BY n.place))
            LIMIT 1);
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._prune_oid() RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'hotmesh_dba'::regnamespace AND p.proname = 'prune'
$$;

-- Does this function hang on hotmesh_dba.prune by its body, and (unless installed plainly) on the extension by its mark?
CREATE OR REPLACE FUNCTION hotmesh_dba._is_wrapper(overload oid, prune oid) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_depend d
                   WHERE d.classid = 'pg_proc'::regclass AND d.objid = overload
                     AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = prune)
       AND (hotmesh_dba._extension() IS NULL
            OR EXISTS (SELECT FROM pg_depend d
                       WHERE d.classid = 'pg_proc'::regclass AND d.objid = overload AND d.deptype = 'x'
                         AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = hotmesh_dba._extension()))
$$;
