-- Messages and signals. Nobody locks a processed message, so none is locked before it goes: FOR UPDATE would write
-- every row once more. Only where somebody did lock one, the others are chosen around it.

-- All due rows of so many pages (NULL: to the end). No row is looked up: as fast as DELETE can be.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_window(lane hotmesh_dba._lane, max_pages bigint)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_indexscan = off
SET enable_bitmapscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_pages bigint := hotmesh_dba._pages((lane).relation);
    v_until bigint := least(v_pages, hotmesh_dba._page_of((lane).next_tid) + coalesce(max_pages, v_pages));
    v_taken bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('DELETE FROM %s t WHERE t.ctid > $3 AND t.ctid < $4 AND %s', (lane).relation, ((lane).step).row_filter)
        USING ((lane).step).before, ((lane).step).entity_list, (lane).next_tid, hotmesh_dba._page_start(v_until);
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    PERFORM hotmesh_dba._check_stands(lane);
    -- The sample may have seen emptier pages.
    lane.per_page := greatest((lane).per_page, v_taken / greatest(1, v_until - hotmesh_dba._page_of((lane).next_tid)));
    lane.next_tid := hotmesh_dba._page_start(v_until);
    RETURN ROW(v_taken, 0, 0, '{}'::text[], v_until >= v_pages, lane)::hotmesh_dba._outcome;
END
$$;

-- All that is due: little, by a look that was just taken.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_due(lane hotmesh_dba._lane) RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_taken bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('DELETE FROM %s t WHERE %s', (lane).relation, ((lane).step).row_filter)
        USING ((lane).step).before, ((lane).step).entity_list;
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    RETURN ROW(v_taken, 0, 0, '{}'::text[], true, lane)::hotmesh_dba._outcome;
END
$$;

-- The chosen rows of a leaf. The filter once more: one that was not locked may have changed since.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_chosen(lane hotmesh_dba._lane, tids tid[]) RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_taken bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('DELETE FROM %s t WHERE t.ctid = ANY ($3) AND %s', (lane).relation, ((lane).step).row_filter)
        USING ((lane).step).before, ((lane).step).entity_list, tids;
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    RETURN ROW(v_taken, 0, 0, '{}'::text[], true, lane)::hotmesh_dba._outcome;
END
$$;

-- Through the parent, by key: the oldest from next_mark on.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_by_key(lane hotmesh_dba._lane, max_rows bigint)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_taken  bigint;
    v_chosen bigint;
    v_mark   timestamptz;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('WITH chosen AS MATERIALIZED (
                        SELECT %1$s, t.%3$I AS mark FROM %2$s t WHERE %4$s AND t.%3$I >= $4 ORDER BY t.%3$I LIMIT $3 %5$s
                    ), gone AS (
                        DELETE FROM %2$s t USING chosen c WHERE (%6$s) = (%7$s) AND %4$s RETURNING 1
                    )
                    SELECT (SELECT count(*) FROM gone), count(*), max(c.mark) FROM chosen c',
                   ((lane).step).key_columns, (lane).relation, ((lane).step).mark_column, ((lane).step).row_filter,
                   hotmesh_dba._locking_clause(lane),
                   regexp_replace(((lane).step).key_columns, '(\w+)', 't.\1', 'g'),
                   regexp_replace(((lane).step).key_columns, '(\w+)', 'c.\1', 'g'))
        INTO v_taken, v_chosen, v_mark
        USING ((lane).step).before, ((lane).step).entity_list, max_rows, (lane).next_mark;
    lane.next_mark := coalesce(v_mark, (lane).next_mark);
    RETURN ROW(v_taken, 0, 0, '{}'::text[], v_chosen < max_rows IS NOT FALSE OR v_taken = 0, lane)::hotmesh_dba._outcome;
END
$$;
