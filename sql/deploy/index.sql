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

-- The first name that is free: another index may have taken HotMesh's.
CREATE OR REPLACE FUNCTION hotmesh_dba._index_name(app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.candidate
    FROM (SELECT 'idx_jobs_pruned_at' || coalesce('_' || nullif(i, 0), '') AS candidate, i
          FROM generate_series(0, 99) i) c
    WHERE to_regclass(format('%I.%I', app_schema, c.candidate)) IS NULL
    ORDER BY c.i
    LIMIT 1
$$;

-- What to type for one table, without blocking its writers; begins where an earlier try broke off.
CREATE OR REPLACE FUNCTION hotmesh_dba._concurrent_index_sql(relation regclass, index_name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(E'\n',
        'DROP INDEX CONCURRENTLY ' || hotmesh_dba._pruned_at_index(relation, valid => false) || ';',
        format('CREATE INDEX CONCURRENTLY %I ON %s (pruned_at) WHERE pruned_at IS NULL;', index_name, relation))
    WHERE hotmesh_dba._pruned_at_index(relation) IS NULL
$$;

-- A partitioned table takes no CONCURRENTLY: an empty index on it, one built on each part, and each attached.
CREATE OR REPLACE FUNCTION hotmesh_dba._partitioned_index_sql(jobs regclass, app_schema name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH part AS (
        SELECT h.inhrelid::regclass AS relation, left(c.relname, 50) || '_pruned_at_idx' AS index_name,
               hotmesh_dba._pruned_at_index(h.inhrelid) AS built
        FROM pg_inherits h
        JOIN pg_class c ON c.oid = h.inhrelid
        WHERE h.inhparent = jobs
    )
    SELECT concat_ws(E'\n',
        CASE WHEN hotmesh_dba._pruned_at_index(jobs, valid => false) IS NULL THEN
            format('CREATE INDEX %I ON ONLY %s (pruned_at) WHERE pruned_at IS NULL;',
                   hotmesh_dba._index_name(app_schema), jobs)
        END,
        string_agg(concat_ws(E'\n',
            hotmesh_dba._concurrent_index_sql(p.relation, p.index_name),
            format('ALTER INDEX %s ATTACH PARTITION %s;',
                   coalesce(hotmesh_dba._pruned_at_index(jobs, valid => false)::text,
                            format('%I.%I', app_schema, hotmesh_dba._index_name(app_schema))),
                   coalesce(p.built::text, format('%I.%I', app_schema, p.index_name)))),
            E'\n' ORDER BY p.index_name)
            FILTER (WHERE NOT EXISTS (SELECT FROM pg_inherits i
                                      WHERE i.inhrelid = p.built AND i.inhparent = hotmesh_dba._pruned_at_index(jobs, valid => false))))
    FROM part p
$$;

-- Dropping the one on a partitioned table takes along what is attached to it; a new one would adopt the rest.
CREATE OR REPLACE FUNCTION hotmesh_dba._drop_invalid_indexes_sql(jobs regclass) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format('DROP INDEX %s;', i.index), E'\n' ORDER BY i.index::text)
    FROM hotmesh_dba._tree(jobs) t, LATERAL (SELECT hotmesh_dba._pruned_at_index(t, valid => false)) i (index)
    WHERE i.index IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.index)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._plan_migration(app_schema name) RETURNS SETOF hotmesh_dba._action
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_jobs           regclass := hotmesh_dba._jobs(app_schema);
    v_is_partitioned boolean := (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = v_jobs);
    v_action         hotmesh_dba._action;
    v_index          text := hotmesh_dba._index_name(app_schema);
    v_object         text := format('index %I.%I', app_schema, v_index);
BEGIN
    IF NOT hotmesh_dba._is_migrated(app_schema) THEN
        v_action := ('added', format('column %s.pruned_at', v_jobs),
                     format('ALTER TABLE %s ADD COLUMN pruned_at timestamp with time zone;', v_jobs));
        RETURN NEXT v_action;
    END IF;
    IF hotmesh_dba._pruned_at_index(v_jobs) IS NOT NULL THEN
        RETURN;
    ELSIF hotmesh_dba._is_big(v_jobs) THEN
        v_action := ('pending', v_object, CASE WHEN v_is_partitioned
            THEN hotmesh_dba._partitioned_index_sql(v_jobs, app_schema)
            ELSE hotmesh_dba._concurrent_index_sql(v_jobs, v_index) END);
    ELSE
        v_action := ('created', v_object, concat_ws(E'\n',
            hotmesh_dba._drop_invalid_indexes_sql(v_jobs),
            format('CREATE INDEX %I ON %s (pruned_at) WHERE pruned_at IS NULL;', v_index, v_jobs)));
    END IF;
    RETURN NEXT v_action;
END
$$;
