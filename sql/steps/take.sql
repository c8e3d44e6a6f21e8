-- Removes the chosen rows, whatever their kind: jobs by their ids or in a window of pages, others by their ctids.
CREATE OR REPLACE FUNCTION hotmesh_dba._take_all(lane hotmesh_dba._lane, ids uuid[], tids tid[], page_window tid[] DEFAULT NULL)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_role    text := hotmesh_dba._set_replication_role(CASE WHEN (lane).triggers_off THEN 'replica'
                                                             ELSE current_setting('session_replication_role') END);
    v_outcome hotmesh_dba._outcome;
BEGIN
    v_outcome := CASE
        WHEN ((lane).step).name = 'strip' THEN hotmesh_dba._strip_jobs(lane, ids)
        WHEN hotmesh_dba._is_of_jobs((lane).step) THEN hotmesh_dba._delete_jobs(lane, ids, page_window)
        ELSE hotmesh_dba._delete_chosen(lane, tids)
    END;
    PERFORM hotmesh_dba._set_replication_role(v_role);
    PERFORM hotmesh_dba._check_stands(lane);
    IF (lane).triggers_off THEN
        -- Asked once more behind the statement: by now its locks keep whoever makes a trigger or a foreign key waiting.
        PERFORM hotmesh_dba._check_fast_path((lane).step);
    END IF;
    RETURN v_outcome;
END
$$;

-- All due jobs of so many pages (NULL: to the end).
CREATE OR REPLACE FUNCTION hotmesh_dba._delete_window_of_jobs(lane hotmesh_dba._lane, max_pages bigint) RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_pages   bigint := hotmesh_dba._pages((lane).relation);
    v_until   bigint := hotmesh_dba._window_end(lane, v_pages, max_pages);
    v_outcome hotmesh_dba._outcome;
BEGIN
    v_outcome := hotmesh_dba._take_all(lane, NULL, NULL, ARRAY[(lane).next_tid, hotmesh_dba._page_start(v_until)]);
    v_outcome.lane := hotmesh_dba._behind_window(lane, v_until, v_outcome.taken);
    v_outcome.finished := v_until >= v_pages;
    RETURN v_outcome;
END
$$;

-- May an error have been caused by one row? Not a lock, a missing right, a full disk, a shutdown.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_a_rows_fault(sqlstate_of text) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT left(sqlstate_of, 2) NOT IN ('25', '40', '42', '53', '54', '55', '57', '58', 'XX') $$;

-- The same, but where one row cannot be removed (seen: two live jobs of one key, which HotMesh's trigger refuses to
-- mark) it does not keep the others from it for ever: the batch is halved down to that row, which is left as it was.
-- After a hundred in a row no more than one of a batch is looked for, so that it soon comes to what lies behind them
-- (the oldest rows of a table are just those that could never go); after two hundred it is no row's fault, and the error
-- stands. So it does at once for a delete in the caller's transaction, which is whole or not at all.
CREATE OR REPLACE FUNCTION hotmesh_dba._take(lane hotmesh_dba._lane, ids uuid[], tids tid[]) RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_half    int := cardinality(tids) / 2;
    v_key     text;
    v_outcome hotmesh_dba._outcome;
    v_newer   hotmesh_dba._outcome;
BEGIN
    BEGIN
        v_outcome := hotmesh_dba._take_all(lane, ids, tids);
        IF v_outcome.taken > 0 THEN
            lane.faults := 0;
            v_outcome.lane := lane;
        END IF;
        RETURN v_outcome;
    EXCEPTION WHEN OTHERS OR assert_failure THEN
        PERFORM hotmesh_dba._check_stands(lane);    -- a right that is gone from a leaf is no error while the parent has it
        IF NOT (lane).spares OR NOT hotmesh_dba._is_a_rows_fault(SQLSTATE)
           OR (lane).faults >= 200 OR cardinality((lane).skip) >= 10000 THEN
            RAISE;
        END IF;
        IF v_half = 0 THEN
            v_key := CASE WHEN hotmesh_dba._is_of_jobs((lane).step) THEN ids[1]::text ELSE tids[1]::text END;
            PERFORM hotmesh_dba._warn_of_skipped(lane, v_key, SQLSTATE, SQLERRM);
            lane.faults := (lane).faults + 1;
            RETURN ROW(0, 0, 0, ARRAY[v_key], true, lane)::hotmesh_dba._outcome;
        END IF;
    END;
    v_newer := hotmesh_dba._take(lane, ids[v_half + 1 :], tids[v_half + 1 :]);
    IF (v_newer.lane).faults >= 100 THEN
        RETURN v_newer;
    END IF;
    v_outcome := hotmesh_dba._take(v_newer.lane, ids[: v_half], tids[: v_half]);
    RETURN ROW(v_outcome.taken + v_newer.taken, v_outcome.attributes + v_newer.attributes,
               v_outcome.cascaded + v_newer.cascaded, v_outcome.skipped || v_newer.skipped, true,
               v_outcome.lane)::hotmesh_dba._outcome;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._warn_of_skipped(lane hotmesh_dba._lane, key text, sqlstate_of text, reason text)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_look text := format('SELECT * FROM %s WHERE %s = %L;', (lane).relation,
                          CASE WHEN hotmesh_dba._is_of_jobs((lane).step) THEN 'id' ELSE 'ctid' END, key);
BEGIN
    IF ((lane).step).name = 'strip' THEN
        RAISE WARNING 'job % of % cannot be marked as pruned, so it was not stripped', key, (lane).relation
            USING ERRCODE = sqlstate_of, DETAIL = reason, HINT = 'See what is wrong with it: ' || v_look;
    ELSE
        RAISE WARNING 'row % of % cannot be deleted', key, (lane).relation
            USING ERRCODE = sqlstate_of, DETAIL = reason, HINT = 'See what is wrong with it: ' || v_look;
    END IF;
END
$$;
