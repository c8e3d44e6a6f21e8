-- How big an app's tables are, as the catalogues and the statistics have it: no row is read.

-- Each table with its leaves. Rows: the counters know of every change, but are lost in a crash; then what the last VACUUM or
-- ANALYZE wrote down counts, and where nobody knows it is NULL and not 0. Without measured, sizes are those that the last
-- VACUUM saw.
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
            SELECT l.*, CASE WHEN n.live > 0 OR n.dead > 0 OR pg_stat_get_tuples_inserted(l.oid) > 0 THEN n.live
                             WHEN l.reltuples > 0 OR l.relpages > 0 AND l.reltuples >= 0 THEN l.reltuples::bigint
                             WHEN measured AND l.bytes = 0 THEN 0 END AS live, n.dead
            FROM leaf l, LATERAL (SELECT pg_stat_get_live_tuples(l.oid) AS live, pg_stat_get_dead_tuples(l.oid) AS dead) n
        )
        SELECT c.root, CASE WHEN bool_and(c.live IS NOT NULL) THEN sum(c.live) END::bigint, sum(c.bytes)::bigint,
               sum(c.dead)::bigint,
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
