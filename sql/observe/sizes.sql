-- How big an app's tables are, as the catalogues and the statistics have it: no row is read.

-- Rows of one plain table: the counters know of every change, but are lost in a crash; then what the last VACUUM or
-- ANALYZE wrote down counts. NULL where nobody knows: not 0.
CREATE OR REPLACE FUNCTION hotmesh_dba._known_rows(relation regclass, reltuples real, relpages int) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_live bigint := pg_stat_get_live_tuples(relation);
BEGIN
    RETURN CASE
        WHEN v_live > 0 OR pg_stat_get_dead_tuples(relation) > 0 OR pg_stat_get_tuples_inserted(relation) > 0 THEN v_live
        WHEN reltuples > 0 OR relpages > 0 AND reltuples >= 0 THEN reltuples
        WHEN pg_relation_size(relation) = 0 THEN 0
    END;
END
$$;

-- Each table with its leaves. Without measured, their sizes are those that the last VACUUM saw.
CREATE OR REPLACE FUNCTION hotmesh_dba._sum_sizes(tables regclass[], measured boolean)
RETURNS TABLE (relation regclass, total_rows bigint, total_bytes bigint, dead_rows bigint, last_vacuum timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        WITH RECURSIVE tree AS (
            SELECT r AS root, r::oid AS member FROM unnest(tables) r
            UNION ALL
            SELECT t.root, h.inhrelid FROM pg_inherits h JOIN tree t ON h.inhparent = t.member
        ), leaf AS (
            SELECT t.root, c.oid, c.reltuples, c.relpages,
                   CASE WHEN measured THEN pg_relation_size(c.oid)
                        ELSE c.relpages * current_setting('block_size')::bigint END AS bytes
            FROM tree t
            JOIN pg_class c ON c.oid = t.member AND c.relkind = 'r'
        ), counted AS (
            SELECT l.*, CASE WHEN measured OR l.relpages > 0
                             THEN hotmesh_dba._known_rows(l.oid, l.reltuples, l.relpages) END AS live
            FROM leaf l
        )
        SELECT c.root, CASE WHEN bool_and(c.live IS NOT NULL) THEN sum(c.live) END::bigint, sum(c.bytes)::bigint,
               sum(pg_stat_get_dead_tuples(c.oid))::bigint,
               max(greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)))
        FROM counted c
        GROUP BY c.root;
END
$$;

-- Measuring waits for whoever has locked a table.
CREATE OR REPLACE FUNCTION hotmesh_dba._sizes(tables regclass[])
RETURNS TABLE (relation regclass, total_rows bigint, total_bytes bigint, dead_rows bigint, last_vacuum timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    RETURN QUERY SELECT s.* FROM hotmesh_dba._sum_sizes(tables, true) s;
EXCEPTION WHEN lock_not_available THEN
    RETURN QUERY SELECT s.* FROM hotmesh_dba._sum_sizes(tables, false) s;
END
$$;

-- Of a table and its partitions.
CREATE OR REPLACE FUNCTION hotmesh_dba._dead_rows(root regclass) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN pg_stat_get_dead_tuples(root)
           + coalesce((SELECT sum(pg_stat_get_dead_tuples(h.inhrelid)) FROM pg_inherits h WHERE h.inhparent = root), 0);
END
$$;
