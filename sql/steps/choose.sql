-- Which rows the next batch takes: up to max_rows (NULL: all). The lane comes back moved on behind them.

-- Jobs that are stripped, or lose their attributes before they go, are locked first: nobody then adds an attribute to them
-- (its foreign key wants the row) nor changes them before we are done. Whatever else is deleted is locked by its DELETE;
-- locking it before would write every row once more, and is done only where somebody holds some of them.
CREATE OR REPLACE FUNCTION hotmesh_dba._locking_clause(lane hotmesh_dba._lane) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN lane.may_lock AND (lane.careful OR lane.by_hand) THEN 'FOR UPDATE SKIP LOCKED' ELSE '' END $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._is_of_jobs(step hotmesh_dba._step) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT step.attributes IS NOT NULL $$;

-- Jobs are told apart by id; other rows by ctid, in a leaf alone. $4 is the lane's skip, which is mostly empty.
CREATE OR REPLACE FUNCTION hotmesh_dba._not_skipped(lane hotmesh_dba._lane) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN cardinality(lane.skip) = 0 THEN ''
                WHEN hotmesh_dba._is_of_jobs(lane.step) THEN 'AND t.id <> ALL ($4::uuid[])'
                WHEN lane.is_leaf THEN 'AND t.ctid <> ALL ($4::tid[])'
                ELSE '' END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._choice_query(lane hotmesh_dba._lane, position_and_order text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT %s, array_agg(c.tid), max(c.mark)
                   FROM (SELECT %s AS id, t.ctid AS tid, %s AS mark
                         FROM %s t WHERE %s %s %s LIMIT $3 %s) c',
                  CASE WHEN hotmesh_dba._is_of_jobs(lane.step) THEN 'array_agg(c.id)' ELSE 'NULL::uuid[]' END,
                  CASE WHEN hotmesh_dba._is_of_jobs(lane.step) THEN 't.id' ELSE 'NULL::uuid' END,
                  coalesce('t.' || (lane.step).mark_column, 'NULL::timestamptz'),
                  lane.relation, (lane.step).row_filter, hotmesh_dba._not_skipped(lane), position_and_order,
                  hotmesh_dba._locking_clause(lane))
$$;

-- From next_tid on, in the order of the pages. The bound on pages keeps a batch short where nothing is due for long.
CREATE OR REPLACE FUNCTION hotmesh_dba._choose_by_blocks(lane hotmesh_dba._lane, max_rows bigint, max_pages bigint)
RETURNS hotmesh_dba._choice
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_indexscan = off
SET enable_indexonlyscan = off
SET enable_bitmapscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_choice hotmesh_dba._choice;
    v_mark   timestamptz;
    v_pages  bigint := hotmesh_dba._pages((lane).relation);
    v_until  bigint := hotmesh_dba._window_end(lane, v_pages, max_pages);
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE hotmesh_dba._choice_query(lane, 'AND t.ctid > $5 AND t.ctid < $6')
        INTO v_choice.ids, v_choice.tids, v_mark
        USING ((lane).step).before, ((lane).step).entity_list, max_rows, (lane).skip,
              (lane).next_tid, hotmesh_dba._page_start(v_until);
    IF cardinality(v_choice.tids) = max_rows THEN
        lane.next_tid := v_choice.tids[max_rows];
        v_choice.finished := false;
    ELSE
        lane.next_tid := hotmesh_dba._page_start(v_until);
        v_choice.finished := v_until >= v_pages;
    END IF;
    v_choice.lane := lane;
    RETURN v_choice;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._page_of(place tid) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT split_part(ltrim(place::text, '('), ',', 1)::bigint $$;

-- Behind which page a window ends that begins at next_tid, in a table of so many pages.
CREATE OR REPLACE FUNCTION hotmesh_dba._window_end(lane hotmesh_dba._lane, pages bigint, max_pages bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT least(pages, hotmesh_dba._page_of(lane.next_tid) + coalesce(max_pages, pages)) $$;

-- From next_mark on, oldest first. The mark keeps a batch from walking the index entries of those before it once more,
-- which lie there dead as long as somebody holds an old snapshot. Rows may share a time, so it includes its own.
CREATE OR REPLACE FUNCTION hotmesh_dba._choose_by_mark(lane hotmesh_dba._lane, max_rows bigint)
RETURNS hotmesh_dba._choice
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_choice hotmesh_dba._choice;
    v_mark   timestamptz;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE hotmesh_dba._choice_query(lane, format('AND t.%1$I >= $5 ORDER BY t.%1$I', ((lane).step).mark_column))
        INTO v_choice.ids, v_choice.tids, v_mark
        USING ((lane).step).before, ((lane).step).entity_list, max_rows, (lane).skip, (lane).next_mark;
    v_choice.finished := cardinality(v_choice.tids) < max_rows IS NOT FALSE;
    lane.next_mark := coalesce(v_mark, (lane).next_mark);
    v_choice.lane := lane;
    RETURN v_choice;
END
$$;

-- The strip: no index has its jobs in an order that a mark could go along, so they are looked for once, and taken in slices.
CREATE OR REPLACE FUNCTION hotmesh_dba._fill_queue(lane hotmesh_dba._lane, max_jobs bigint) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_queue uuid[];
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT array_agg(due.id) FROM (SELECT t.id FROM %s t WHERE %s %s LIMIT $3) due',
                   (lane).relation, ((lane).step).row_filter, hotmesh_dba._not_skipped(lane))
        INTO v_queue
        USING ((lane).step).before, ((lane).step).entity_list, max_jobs, (lane).skip;
    RETURN coalesce(v_queue, '{}');
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._choose_from_queue(lane hotmesh_dba._lane, max_jobs bigint)
RETURNS hotmesh_dba._choice
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    c_queue  CONSTANT bigint := 20000;
    v_choice hotmesh_dba._choice;
    v_mark   timestamptz;
    v_size   int;
BEGIN
    IF (lane).queue IS NULL THEN
        lane.queue := hotmesh_dba._fill_queue(lane, CASE WHEN max_jobs IS NOT NULL THEN greatest(c_queue, max_jobs) END);
    END IF;
    v_size := least(max_jobs, cardinality((lane).queue));
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE hotmesh_dba._choice_query(lane, 'AND t.id = ANY ($5)')
        INTO v_choice.ids, v_choice.tids, v_mark
        USING ((lane).step).before, ((lane).step).entity_list, NULL::bigint, (lane).skip, (lane).queue[1 : v_size];
    lane.queue := (lane).queue[v_size + 1 :];
    v_choice.finished := cardinality((lane).queue) = 0;
    v_choice.lane := lane;
    RETURN v_choice;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._choose(lane hotmesh_dba._lane, max_rows bigint, max_pages bigint)
RETURNS hotmesh_dba._choice
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE
        WHEN (lane).way = 'blocks' THEN hotmesh_dba._choose_by_blocks(lane, max_rows, max_pages)
        WHEN ((lane).step).name = 'strip' THEN hotmesh_dba._choose_from_queue(lane, max_rows)
        ELSE hotmesh_dba._choose_by_mark(lane, max_rows)
    END;
END
$$;
