-- How much is due in a lane, and by which way it is found: by bounded looks, never by reading a big table whole.

-- Due rows, counted no further than max_rows, the lane's skipped ones aside; lockable: and those that others hold.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_lane(lane hotmesh_dba._lane, max_rows bigint, lockable boolean)
RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_count bigint;
BEGIN
    lane.careful := true;
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %s t WHERE %s %s LIMIT $3 %s) due',
                   (lane).relation, ((lane).step).row_filter, hotmesh_dba._not_skipped(lane),
                   CASE WHEN lockable THEN hotmesh_dba._locking_clause(lane) END)
        INTO v_count
        USING ((lane).step).before, ((lane).step).entity_list, max_rows, (lane).skip;
    RETURN v_count;
END
$$;

-- How many rows of a step one statement may take: as many as surely take less than a batch should.
CREATE OR REPLACE FUNCTION hotmesh_dba._sweep_rows(step hotmesh_dba._step, batch_time interval) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN hotmesh_dba._is_of_jobs(step) THEN 0
                ELSE 16000 * least(1, extract(epoch FROM batch_time) / 0.2) END::bigint
$$;

-- Is anything due in any of the step's tables? One look where there would be one a leaf.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_due(step hotmesh_dba._step) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_is_due boolean;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT EXISTS (SELECT FROM %s t WHERE %s)', step.relation, step.row_filter)
        INTO v_is_due
        USING step.before, step.entity_list;
    RETURN v_is_due;
EXCEPTION WHEN OTHERS OR assert_failure THEN
    RETURN true;    -- whoever comes to it will see
END
$$;

-- Looks at no more than 128 pages, in eight groups spread evenly over the leaf: how many rows are on a full one, and
-- how many are due on an average one.
CREATE OR REPLACE FUNCTION hotmesh_dba._sample(lane hotmesh_dba._lane, pages bigint, OUT per_page int, OUT due_per_page float8)
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
    c_pages  CONSTANT bigint := 16;      -- of a group
    v_groups bigint := least(8, greatest(1, pages / c_pages));
    v_page   bigint;
    v_rows   bigint;
    v_due    bigint;
    v_all    bigint := 0;
BEGIN
    per_page := 1;
    PERFORM hotmesh_dba._bound_waiting();
    FOR v_group IN 0 .. v_groups - 1 LOOP
        v_page := v_group * pages / v_groups;
        EXECUTE format('SELECT count(*), count(*) FILTER (WHERE %s) FROM %s t WHERE t.ctid >= $3 AND t.ctid < $4',
                       ((lane).step).row_filter, (lane).relation)
            INTO v_rows, v_due
            USING ((lane).step).before, ((lane).step).entity_list,
                  hotmesh_dba._page_start(v_page), hotmesh_dba._page_start(v_page + c_pages);
        per_page := greatest(per_page, v_rows / c_pages);
        v_all := v_all + v_due;
    END LOOP;
    due_per_page := v_all::float8 / (v_groups * c_pages);
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._page_start(page bigint) RETURNS tid
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('(%s,0)', least(page, 4294967294))::tid $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._pages(relation regclass) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT pg_relation_size(relation) / current_setting('block_size')::bigint $$;

-- Little is due: along an index, which costs what is due. Much: along the pages, which costs each page once. The
-- strip has no index that holds due rows alone, and begins anew at its left edge each time, so much is less for it:
-- reading a leaf once costs next to nothing beside stripping its jobs.
CREATE OR REPLACE FUNCTION hotmesh_dba._probe(lane hotmesh_dba._lane) RETURNS hotmesh_dba._lane
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_few   CONSTANT bigint := 2000;
    v_pages bigint;
    v_sample record;
BEGIN
    lane.due := hotmesh_dba._count_lane(lane, c_few, false);
    lane.way := 'index';
    IF lane.due = c_few AND (lane).is_leaf THEN
        v_pages := hotmesh_dba._pages((lane).relation);
        SELECT s.* INTO v_sample FROM hotmesh_dba._sample(lane, v_pages) s;
        lane.per_page := v_sample.per_page;
        lane.due := greatest(c_few, (v_sample.due_per_page * v_pages)::bigint);
        IF v_sample.due_per_page >= 1 OR v_pages <= 1000 OR ((lane).step).name = 'strip' THEN
            lane.way := 'blocks';
        END IF;
    END IF;
    IF (lane).is_leaf AND hotmesh_dba._forced_way() IS NOT NULL THEN
        lane.way := hotmesh_dba._forced_way();
        lane.per_page := coalesce((lane).per_page, 10);
    END IF;
    RETURN lane;
END
$$;

-- The last look at a lane: how much is still due, counted no further than max_rows. Along an index it walks all the dead
-- entries of what was deleted; where that are so many messages that it would cost a quarter of their deletion it
-- looks at the sample of pages instead. (Nobody moves a message once it is processed; a job may well be updated.)
CREATE OR REPLACE FUNCTION hotmesh_dba._look_again(lane hotmesh_dba._lane, max_rows bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c_many CONSTANT bigint := 20000;
BEGIN
    IF hotmesh_dba._is_of_jobs((lane).step) OR (lane).way <> 'blocks' OR (lane).taken < c_many
       OR (SELECT s.due_per_page > 0 FROM hotmesh_dba._sample(lane, hotmesh_dba._pages((lane).relation)) s) THEN
        RETURN hotmesh_dba._count_lane(lane, max_rows, false);
    END IF;
    RETURN 0;
END
$$;
