-- Messages and signals. Nobody locks a processed message, so none is locked before it goes: FOR UPDATE would write
-- every row once more. Only where somebody did lock one, the others are chosen around it.

-- The lane behind a window of which so many rows were taken. (The sample may have seen emptier pages.)
CREATE OR REPLACE FUNCTION hotmesh_dba._behind_window(lane hotmesh_dba._lane, until bigint, taken bigint) RETURNS hotmesh_dba._lane
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    lane.per_page := greatest((lane).per_page, taken / greatest(1, until - hotmesh_dba._page_of((lane).next_tid)));
    lane.next_tid := hotmesh_dba._page_start(until);
    RETURN lane;
END
$$;

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
    v_until bigint := hotmesh_dba._window_end(lane, v_pages, max_pages);
    v_taken bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('DELETE FROM %s t WHERE t.ctid > $3 AND t.ctid < $4 AND %s', (lane).relation, ((lane).step).row_filter)
        USING ((lane).step).before, ((lane).step).entity_list, (lane).next_tid, hotmesh_dba._page_start(v_until);
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    PERFORM hotmesh_dba._check_stands(lane);
    RETURN ROW(v_taken, 0, 0, '{}'::text[], v_until >= v_pages,
               hotmesh_dba._behind_window(lane, v_until, v_taken))::hotmesh_dba._outcome;
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

-- key_columns of an alias. (No regular expression: standard_conforming_strings may be off.)
CREATE OR REPLACE FUNCTION hotmesh_dba._key_of(alias text, key_columns text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('%s.%s', alias, replace(key_columns, ', ', format(', %s.', alias))) $$;

-- The oldest from next_mark on, with their keys: $1 before, $2 entity_list, $3 max_rows, $4 next_mark.
CREATE OR REPLACE FUNCTION hotmesh_dba._oldest_query(lane hotmesh_dba._lane) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT %1$s, t.%3$I AS mark FROM %2$s t WHERE %4$s AND t.%3$I >= $4 ORDER BY t.%3$I LIMIT $3 %5$s',
                  (lane.step).key_columns, lane.relation, (lane.step).mark_column, (lane.step).row_filter,
                  hotmesh_dba._locking_clause(lane))
$$;

-- Where a rule stands on the table, which WITH and RETURNING refuse: first the keys, then as plain a DELETE as anybody's.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_by_rule(
    lane hotmesh_dba._lane, max_rows bigint, OUT taken bigint, OUT chosen bigint, OUT mark timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_keys jsonb;
BEGIN
    EXECUTE format('SELECT jsonb_agg(c), count(*), max(c.mark) FROM (%s) c', hotmesh_dba._oldest_query(lane))
        INTO v_keys, chosen, mark
        USING ((lane).step).before, ((lane).step).entity_list, max_rows, (lane).next_mark;
    EXECUTE format('DELETE FROM %1$s t WHERE (%2$s) IN (SELECT %3$s FROM jsonb_populate_recordset(NULL::%1$s, $3) c) AND %4$s',
                   (lane).relation, hotmesh_dba._key_of('t', ((lane).step).key_columns),
                   hotmesh_dba._key_of('c', ((lane).step).key_columns), ((lane).step).row_filter)
        USING ((lane).step).before, ((lane).step).entity_list, v_keys;
    GET DIAGNOSTICS taken = ROW_COUNT;
END
$$;

-- Through the parent, by key: the oldest from next_mark on. It ends where none is left, or all of one time are kept.
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_by_key(lane hotmesh_dba._lane, max_rows bigint)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_taken    bigint;
    v_chosen   bigint;
    v_mark     timestamptz;
    v_finished boolean;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    IF (SELECT c.relhasrules FROM pg_class c WHERE c.oid = (lane).relation) THEN
        SELECT r.taken, r.chosen, r.mark INTO v_taken, v_chosen, v_mark FROM hotmesh_dba._delete_by_rule(lane, max_rows) r;
    ELSE
        EXECUTE format('WITH chosen AS MATERIALIZED (%s), gone AS (
                            DELETE FROM %s t USING chosen c WHERE (%s) = (%s) AND %s RETURNING 1
                        )
                        SELECT (SELECT count(*) FROM gone), count(*), max(c.mark) FROM chosen c',
                       hotmesh_dba._oldest_query(lane), (lane).relation, hotmesh_dba._key_of('t', ((lane).step).key_columns),
                       hotmesh_dba._key_of('c', ((lane).step).key_columns), ((lane).step).row_filter)
            INTO v_taken, v_chosen, v_mark
            USING ((lane).step).before, ((lane).step).entity_list, max_rows, (lane).next_mark;
    END IF;
    v_finished := v_chosen < max_rows IS NOT FALSE OR v_taken = 0 AND v_mark = (lane).next_mark;
    lane.next_mark := coalesce(v_mark, (lane).next_mark);
    RETURN ROW(v_taken, 0, 0, '{}'::text[], v_finished, lane)::hotmesh_dba._outcome;
END
$$;
