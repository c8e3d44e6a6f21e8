-- The fuse: a policy that would delete more than max_percent of a table's rows was hardly meant so (a window too short, an
-- app restored with its clock wrong). It stops before the first row.

-- Rows that none of the steps (two at most, of one table) takes, counted no further than max_rows.
CREATE OR REPLACE FUNCTION hotmesh_dba._count_staying(steps hotmesh_dba._step[], max_rows bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off
SET lock_timeout = 0
AS $$
DECLARE
    v_count bigint;
BEGIN
    PERFORM hotmesh_dba._bound_waiting();
    EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %s t WHERE (%s) IS NOT TRUE AND (%s) IS NOT TRUE LIMIT $4) s',
                   (steps[1]).relation, (steps[1]).row_filter,
                   coalesce(replace((steps[2]).row_filter, '$1', '$3'), 'false'))
        INTO v_count
        USING (steps[1]).before, (steps[1]).entity_list, (steps[2]).before, max_rows;
    RETURN v_count;
END
$$;

-- Of one table, all the steps that delete rows of it. No estimate: statistics know nothing of a restored table, and a
-- sample of pages nothing of one whose rows all lie at one end. But rows that stay are counted no further than there
-- must be of them, so that where little is due little is read.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_share(run hotmesh_dba._run, relation regclass, steps hotmesh_dba._step[])
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_due  bigint := (SELECT coalesce(sum(hotmesh_dba._count_due(s, NULL)), 0)
                      FROM unnest(steps) s WHERE hotmesh_dba._is_due(s));
    v_must bigint := ceil(v_due * (100 - (run).max_percent) / (run).max_percent);
    v_stay bigint := hotmesh_dba._count_staying(steps, v_must);
BEGIN
    IF v_due > 0 AND v_stay < v_must THEN
        RAISE EXCEPTION '% of % rows of % are due', v_due, v_due + v_stay, relation
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('More than the max_percent of %s of its policy; so no row was deleted.', (run).max_percent),
                  HINT = (SELECT concat_ws(' ', 'Look at what would go: ' || hotmesh_dba._preview_policy_call(p) || ';',
                                           'if all of it may go: ' || hotmesh_dba._run_policy_call(r.app, r.policy, force => true) || ';')
                          FROM hotmesh_dba.run r, hotmesh_dba._policy(r.app, r.policy) p
                          WHERE r.id = (run).id);
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
