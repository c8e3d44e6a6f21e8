-- May all that is due on so many pages be taken at once, with nothing chosen before? Of jobs only where they lie densely
-- (elsewhere nobody could tell how many there will be), and where behind the DELETE the catalogues say whether the cascade
-- was there.
CREATE OR REPLACE FUNCTION hotmesh_dba._may_take_pages(lane hotmesh_dba._lane) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (lane).way = 'blocks' AND NOT (lane).careful
       AND (NOT hotmesh_dba._is_of_jobs((lane).step)
            OR ((lane).step).name <> 'strip' AND (lane).due >= hotmesh_dba._pages((lane).relation) * (lane).per_page / 2
           AND hotmesh_dba._is_read_committed());
END
$$;

-- One bounded batch of any step in one lane; whoever removes rows calls this. max_rows NULL: all that is due.
-- whole_pages: rows may be taken page by page, bounded only by the pages that can hold so many.
CREATE OR REPLACE FUNCTION hotmesh_dba._run_batch(lane hotmesh_dba._lane, max_rows bigint, whole_pages boolean)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_nothing hotmesh_dba._outcome := (0, 0, 0, '{}'::text[], true, lane);
    v_pages   bigint;
BEGIN
    IF NOT hotmesh_dba._is_part_of((lane).relation, ((lane).step).relation) THEN
        RETURN v_nothing;
    ELSIF (lane).sweeps THEN
        RETURN hotmesh_dba._delete_due(lane);
    END IF;
    PERFORM hotmesh_dba._check_step_privileges((lane).step, true);
    IF (lane).careful THEN
        lane := hotmesh_dba._renewed(lane);     -- it has given way before, perhaps since its table has changed
    END IF;
    IF (lane).way IS NULL THEN
        lane := hotmesh_dba._probe(lane);
    END IF;
    v_nothing.lane := lane;
    IF (lane).due = 0 THEN
        RETURN v_nothing;
    ELSIF NOT (hotmesh_dba._is_of_jobs((lane).step) OR (lane).is_leaf) THEN
        RETURN hotmesh_dba._delete_by_key(lane, max_rows);
    ELSIF whole_pages AND hotmesh_dba._may_take_pages(lane) THEN
        v_pages := CASE WHEN max_rows IS NOT NULL THEN greatest(1, max_rows / (lane).per_page) END;
        BEGIN
            RETURN CASE WHEN hotmesh_dba._is_of_jobs((lane).step) THEN hotmesh_dba._delete_window_of_jobs(lane, v_pages)
                        ELSE hotmesh_dba._delete_window(lane, v_pages) END;
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            lane.careful := true;   -- somebody has locked a row there, or one cannot go: the others are chosen around it
        END;
    END IF;
    RETURN hotmesh_dba._run_chosen(lane, max_rows);
END
$$;

-- A batch of rows that are first chosen, then taken.
CREATE OR REPLACE FUNCTION hotmesh_dba._run_chosen(lane hotmesh_dba._lane, max_rows bigint)
RETURNS hotmesh_dba._outcome
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_pages   CONSTANT bigint := 4096;      -- read by a batch that finds little: some milliseconds
    v_choice  hotmesh_dba._choice;
    v_outcome hotmesh_dba._outcome := (0, 0, 0, '{}'::text[], true, NULL);
BEGIN
    lane.by_hand := ((lane).step).name IN ('jobs', 'transient') AND NOT (lane).triggers_off
                    AND NOT hotmesh_dba._cascade_is_intact(((lane).step).relation, ((lane).step).attributes);
    v_choice := hotmesh_dba._choose(lane, max_rows, CASE WHEN max_rows IS NOT NULL THEN c_pages END);
    IF v_choice.tids IS NOT NULL THEN
        v_outcome := hotmesh_dba._take(v_choice.lane, v_choice.ids, v_choice.tids);
    END IF;
    -- By marks, a batch that took nothing and came no further would be chosen again for ever.
    v_outcome.finished := v_choice.finished
        OR v_outcome.taken + cardinality(v_outcome.skipped) = 0 AND (lane).way = 'index' AND ((lane).step).name <> 'strip'
       AND (v_choice.lane).next_mark = (lane).next_mark;
    lane := v_choice.lane;
    lane.skip := (lane).skip || v_outcome.skipped;
    lane.faults := coalesce((v_outcome.lane).faults, (lane).faults);
    v_outcome.lane := lane;
    RETURN v_outcome;
END
$$;

-- Adds what a step did (or would do) to the result's columns.
CREATE OR REPLACE FUNCTION hotmesh_dba._add(counts hotmesh_dba._counts, step_name text, taken bigint, attributes bigint)
RETURNS hotmesh_dba._counts
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE step_name
        WHEN 'jobs' THEN counts.deleted_jobs := counts.deleted_jobs + taken;
        WHEN 'transient' THEN counts.deleted_transient := counts.deleted_transient + taken;
        WHEN 'engine_streams' THEN counts.deleted_engine_streams := counts.deleted_engine_streams + taken;
        WHEN 'worker_streams' THEN counts.deleted_worker_streams := counts.deleted_worker_streams + taken;
        WHEN 'signals' THEN counts.deleted_signals := counts.deleted_signals + taken;
        WHEN 'strip' THEN
            counts.marked_pruned := counts.marked_pruned + taken;
            counts.stripped_attributes := counts.stripped_attributes + attributes;
    END CASE;
    counts.deleted_streams := counts.deleted_engine_streams + counts.deleted_worker_streams;
    RETURN counts;
END
$$;

-- How many rows of a step are due now, and are not taken by an earlier step; counted no further than max_rows.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_due(step hotmesh_dba._step, max_rows bigint) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_count bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT count(*) FROM (%s) due', hotmesh_dba._due_query(step, '1'))
        INTO v_count
        USING step.before, step.entity_list, max_rows;
    RETURN v_count;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._due_query(step hotmesh_dba._step, columns text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT %s FROM %s t WHERE %s AND (%s) IS NOT TRUE LIMIT $3',
                  columns, step.relation, step.row_filter, coalesce(step.taken_before, 'false'))
$$;
