-- The fuse: a policy that would delete more than max_percent of a table's rows was hardly meant so (a window too short, an
-- app restored with its clock wrong). It stops before the first row.

-- How many rows stand in a leaf now: counted where it is small, else by 256 pages of it, evenly spread. (Statistics know
-- nothing of a restored table, and long nothing of what was deleted.)
CREATE OR REPLACE FUNCTION hotmesh_dba._live_rows_of_leaf(leaf regclass) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    c_pages CONSTANT bigint := 16;      -- of a group
    v_pages bigint;
    v_rows  bigint;
    v_all   bigint := 0;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    v_pages := hotmesh_dba._pages(leaf);
    IF v_pages <= 16 * c_pages THEN
        EXECUTE format('SELECT count(*) FROM %s', leaf) INTO v_rows;
        RETURN v_rows;
    END IF;
    FOR v_group IN 0 .. 15 LOOP
        EXECUTE format('SELECT count(*) FROM %s t WHERE t.ctid >= $1 AND t.ctid < $2', leaf)
            INTO v_rows
            USING hotmesh_dba._page_start(v_group * v_pages / 16), hotmesh_dba._page_start(v_group * v_pages / 16 + c_pages);
        v_all := v_all + v_rows;
    END LOOP;
    RETURN v_all * v_pages / (16 * c_pages);
END
$$;

-- Where the leaves are not ours to read they are counted through their parent.
CREATE OR REPLACE FUNCTION hotmesh_dba._live_rows(relation regclass) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
DECLARE
    v_rows bigint;
BEGIN
    IF NOT row_security_active(relation) AND NOT hotmesh_dba._is_distributed(relation)
       AND (SELECT bool_and(l.is_plain AND has_table_privilege(l.leaf, 'SELECT') AND NOT row_security_active(l.leaf))
            FROM hotmesh_dba._leaves(relation) l) THEN
        RETURN (SELECT sum(hotmesh_dba._live_rows_of_leaf(l.leaf)) FROM hotmesh_dba._leaves(relation) l);
    END IF;
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT count(*) FROM %s', relation) INTO v_rows;
    RETURN v_rows;
END
$$;

-- Of one table, all the steps that delete rows of it. Counted no further than to the one row too many.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_share(run hotmesh_dba._run, relation regclass, steps hotmesh_dba._step[])
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_step hotmesh_dba._step;
    v_rows bigint;
    v_may  bigint;
    v_due  bigint := 0;
BEGIN
    IF (SELECT count(*) = 0 FROM unnest(steps) s WHERE hotmesh_dba._is_due(s)) THEN
        RETURN;
    END IF;
    v_rows := hotmesh_dba._live_rows(relation);
    v_may := floor(v_rows * (run).max_percent / 100);
    FOREACH v_step IN ARRAY steps LOOP
        v_due := v_due + hotmesh_dba._count_due(v_step, v_may + 1 - v_due);
        EXIT WHEN v_due > v_may;
    END LOOP;
    IF v_due > v_may THEN
        RAISE EXCEPTION 'at least % of about % rows of % are due', v_due, v_rows, relation
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('More than the max_percent of %s of its policy; so no row was deleted.', (run).max_percent),
                  HINT = (SELECT format('If all of them may go: CALL hotmesh_dba.run_policy(%L, %L, force => true);', r.app, r.policy)
                          FROM hotmesh_dba.run r WHERE r.id = (run).id);
    END IF;
END
$$;

-- Every worker looks at every table as a whole: none begins where one would not.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_shares(run hotmesh_dba._run) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    FOR v_try IN 1 .. 6 LOOP
        BEGIN
            PERFORM hotmesh_dba._check_share(run, t.relation, t.steps)
            FROM (SELECT s.relation, array_agg(s ORDER BY s.ordinal) AS steps, min(s.ordinal) AS position
                  FROM unnest((run).steps) s
                  WHERE s.name <> 'strip'       -- it deletes no row of its table
                  GROUP BY s.relation
                  ORDER BY position) t;
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            IF v_try = 6 THEN
                PERFORM hotmesh_dba._raise_locked((run).app, 'prune');
            END IF;
            PERFORM pg_sleep(0.05 * v_try);
        END;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._try_fuse(run hotmesh_dba._run) RETURNS hotmesh_dba._run
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_detail text;
    v_hint   text;
BEGIN
    PERFORM hotmesh_dba._check_shares(run);
    run.max_percent := NULL;
    RETURN run;
EXCEPTION WHEN OTHERS OR assert_failure THEN
    GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
    run := hotmesh_dba._with_error(run, SQLSTATE, SQLERRM, v_detail, v_hint);
    RETURN hotmesh_dba._end_run(run, CASE WHEN SQLSTATE = '55000' THEN 'max_percent' ELSE 'error' END);
END
$$;
