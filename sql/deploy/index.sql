-- Would a plain CREATE INDEX block the app's writers for too long? More than 100,000 rows, counted no further;
-- or a heap so large that reading it takes as long, however few rows are left in it.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_big(jobs regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rows bigint;
BEGIN
    IF (SELECT sum(pg_relation_size(t)) FROM hotmesh_dba._tree(jobs) t) > 256 * 1024 * 1024 THEN
        RETURN true;
    END IF;
    EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %s LIMIT 100001) probe', jobs) INTO v_rows;
    RETURN v_rows > 100000;
END
$$;

-- The first name that is free: another index may have taken the usual one.
CREATE OR REPLACE FUNCTION hotmesh_dba._index_name(app_schema name, kind text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.candidate
    FROM (SELECT 'idx_jobs_' || kind || coalesce('_' || nullif(i, 0), '') AS candidate, i
          FROM generate_series(0, 99) i) c
    WHERE to_regclass(format('%I.%I', app_schema, c.candidate)) IS NULL
    ORDER BY c.i
    LIMIT 1
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._index_definition(kind text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT w.definition FROM hotmesh_dba._strip_indexes() w WHERE w.kind = _index_definition.kind $$;

-- What to type for one table, without blocking its writers; begins where an earlier try broke off.
CREATE OR REPLACE FUNCTION hotmesh_dba._concurrent_index_sql(relation regclass, kind text, index_name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(E'\n',
        'DROP INDEX CONCURRENTLY ' || hotmesh_dba._strip_index(relation, kind, valid => false) || ';',
        format('CREATE INDEX CONCURRENTLY %I ON %s %s;', index_name, relation, hotmesh_dba._index_definition(kind)))
    WHERE hotmesh_dba._strip_index(relation, kind) IS NULL
$$;

-- A partitioned table takes no CONCURRENTLY: an empty index on it, one built on each part, and each attached.
CREATE OR REPLACE FUNCTION hotmesh_dba._partitioned_index_sql(jobs regclass, kind text, app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH part AS (
        SELECT h.inhrelid::regclass AS relation, format('%s_%s_idx', left(c.relname, 50), kind) AS index_name,
               hotmesh_dba._strip_index(h.inhrelid, kind) AS built
        FROM pg_inherits h
        JOIN pg_class c ON c.oid = h.inhrelid
        WHERE h.inhparent = jobs
    )
    SELECT concat_ws(E'\n',
        CASE WHEN hotmesh_dba._strip_index(jobs, kind, valid => false) IS NULL THEN
            format('CREATE INDEX %I ON ONLY %s %s;',
                   hotmesh_dba._index_name(app_schema, kind), jobs, hotmesh_dba._index_definition(kind))
        END,
        string_agg(concat_ws(E'\n',
            hotmesh_dba._concurrent_index_sql(p.relation, kind, p.index_name),
            format('ALTER INDEX %s ATTACH PARTITION %s;',
                   coalesce(hotmesh_dba._strip_index(jobs, kind, valid => false)::text,
                            format('%I.%I', app_schema, hotmesh_dba._index_name(app_schema, kind))),
                   coalesce(p.built::text, format('%I.%I', app_schema, p.index_name)))),
            E'\n' ORDER BY p.index_name)
            FILTER (WHERE NOT EXISTS (SELECT FROM pg_inherits i
                                      WHERE i.inhrelid = p.built
                                        AND i.inhparent = hotmesh_dba._strip_index(jobs, kind, valid => false))))
    FROM part p
$$;

-- Dropping the one on a partitioned table takes along what is attached to it; a new one would adopt the rest.
CREATE OR REPLACE FUNCTION hotmesh_dba._drop_invalid_indexes_sql(jobs regclass, kind text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format('DROP INDEX %s;', i.index), E'\n' ORDER BY i.index::text)
    FROM hotmesh_dba._tree(jobs) t, LATERAL (SELECT hotmesh_dba._strip_index(t, kind, valid => false)) i (index)
    WHERE i.index IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.index)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._plan_index(app_schema name, jobs regclass, kind text, is_big boolean)
RETURNS hotmesh_dba._action
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_index  text := hotmesh_dba._index_name(app_schema, kind);
    v_object text := format('index %I.%I', app_schema, v_index);
BEGIN
    IF NOT is_big THEN
        RETURN ROW('created'::text, v_object, concat_ws(E'\n',
            hotmesh_dba._drop_invalid_indexes_sql(jobs, kind),
            format('CREATE INDEX %I ON %s %s;', v_index, jobs, hotmesh_dba._index_definition(kind))));
    ELSIF (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = jobs) THEN
        RETURN ROW('pending'::text, v_object, hotmesh_dba._partitioned_index_sql(jobs, kind, app_schema));
    END IF;
    RETURN ROW('pending'::text, v_object, hotmesh_dba._concurrent_index_sql(jobs, kind, v_index));
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._plan_migration(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_jobs   regclass := hotmesh_dba._jobs(app_schema);
    v_kind   text;
    v_is_big boolean;
    v_action hotmesh_dba._action;
BEGIN
    IF NOT hotmesh_dba._is_migrated(app_schema) THEN
        v_action := ('added', format('column %s.pruned_at', v_jobs),
                     format('ALTER TABLE %s ADD COLUMN pruned_at timestamp with time zone;', v_jobs));
        RETURN NEXT v_action;
    END IF;
    FOR v_kind IN SELECT w.kind FROM hotmesh_dba._strip_indexes() w WHERE hotmesh_dba._strip_index(v_jobs, w.kind) IS NULL LOOP
        v_is_big := coalesce(v_is_big, hotmesh_dba._is_big(v_jobs));
        RETURN NEXT hotmesh_dba._plan_index(app_schema, v_jobs, v_kind, v_is_big);
    END LOOP;
END
$$;
