-- Where a step works. In the leaf partitions, one by one: there a ctid names one row, and no statement has to find its partition. But rights,
-- policies and statement triggers of the parent are not asked on a leaf; where that could make a difference, and
-- where Citus keeps the leaves elsewhere, the step works on the parent, by key.

CREATE OR REPLACE FUNCTION hotmesh_dba._may_lock(relation regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Under row-level security locking wants a policy for UPDATE as well.
    RETURN has_any_column_privilege(relation, 'UPDATE') AND NOT row_security_active(relation);
END
$$;

-- Has a DELETE or UPDATE of this very table an effect of its own (statement triggers, rules), which one of its parent, or
-- of a leaf of it, has not?
CREATE OR REPLACE FUNCTION hotmesh_dba._minds_statements(relation regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pg_trigger t
                   WHERE t.tgrelid = relation AND t.tgenabled <> 'D'
                     AND t.tgtype & 1 = 0 AND t.tgtype & (8 | 16) > 0)   -- not FOR EACH ROW; DELETE or UPDATE
        OR EXISTS (SELECT FROM pg_rewrite r
                   WHERE r.ev_class = relation AND r.ev_enabled <> 'D' AND r.ev_type IN ('2', '4'));     -- UPDATE, DELETE
END
$$;

-- May this role do on the leaf what it may do on the parent, with the same effect?
CREATE OR REPLACE FUNCTION hotmesh_dba._is_like_parent(leaf regclass, parent regclass, step_name text) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN leaf = parent
        OR has_table_privilege(leaf, 'SELECT')
       AND CASE WHEN step_name = 'strip' THEN has_column_privilege(leaf, 'pruned_at', 'UPDATE')
                ELSE has_table_privilege(leaf, 'DELETE') END
       AND hotmesh_dba._may_lock(leaf) >= hotmesh_dba._may_lock(parent)
       AND NOT row_security_active(parent) AND NOT row_security_active(leaf)
       AND NOT hotmesh_dba._minds_statements(parent) AND NOT hotmesh_dba._minds_statements(leaf);
END
$$;

-- Which rows of a table partitioned by HASH a partition has. Not by pg_get_expr: it waits for whoever has locked the table.
CREATE OR REPLACE FUNCTION hotmesh_dba._remainder(partition_bound text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT substring(partition_bound FROM ':strategy h .*(:modulus [0-9]+ :remainder [0-9]+)') $$;

-- The plain tables at the ends of a partition tree, numbered. A foreign table there (relkind f) has no pages of ours. The
-- remainder says something about rows only where the leaf is a partition of the root itself.
CREATE OR REPLACE FUNCTION hotmesh_dba._leaves(root regclass)
RETURNS TABLE (leaf regclass, number int, remainder text, is_plain boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.relation, (row_number() OVER (ORDER BY t.relation::oid))::int - 1,
           CASE WHEN EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = t.relation AND h.inhparent = root)
                THEN hotmesh_dba._remainder(c.relpartbound::text) END,
           c.relkind = 'r'
    FROM hotmesh_dba._tree(root) t (relation)
    JOIN pg_class c ON c.oid = t.relation AND c.relkind <> 'p'
$$;

-- Do two tables hash the same values into equal remainders, so that a job and its attributes lie in leaves of the same one?
CREATE OR REPLACE FUNCTION hotmesh_dba._hash_alike(jobs regclass, attributes regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*) = 2 AND count(DISTINCT p.partclass::text || p.partcollation::text) = 1
    FROM pg_partitioned_table p
    JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
    WHERE p.partrelid IN (jobs, attributes) AND p.partstrat = 'h' AND p.partnatts = 1
      AND a.attname = CASE WHEN p.partrelid = jobs THEN 'id' ELSE 'job_id' END
$$;

-- The leaves of the attributes table that may be worked in, each beside the leaf of its jobs; none where the tables are
-- not partitioned alike.
CREATE OR REPLACE FUNCTION hotmesh_dba._attribute_leaves(step hotmesh_dba._step)
RETURNS TABLE (leaf regclass, remainder text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.leaf, l.remainder
    FROM hotmesh_dba._leaves(step.attributes) l
    WHERE l.is_plain AND l.remainder IS NOT NULL
      AND hotmesh_dba._hash_alike(step.relation, step.attributes)
      AND hotmesh_dba._is_like_parent(l.leaf, step.attributes, 'attributes')
$$;

-- Is this schema spread over other nodes by Citus? Then the leaves' pages and statistics are not here.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_distributed(relation regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_distributed boolean := false;
BEGIN
    IF to_regclass('pg_catalog.pg_dist_schema') IS NOT NULL THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_schema s JOIN pg_catalog.pg_class c
                                ON c.relnamespace = s.schemaid WHERE c.oid = $1)'
            INTO v_distributed USING relation;
    END IF;
    RETURN v_distributed;
END
$$;

-- A setting that forces the way in which rows are found, for tests: blocks, index, or keys (through the parent).
CREATE OR REPLACE FUNCTION hotmesh_dba._forced_way() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT nullif(current_setting('hotmesh_dba.way', true), '') $$;

CREATE OR REPLACE FUNCTION hotmesh_dba._works_in_leaves(step hotmesh_dba._step) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT hotmesh_dba._forced_way() IS DISTINCT FROM 'keys'
       AND NOT hotmesh_dba._minds_statements(step.relation)
       AND NOT hotmesh_dba._is_distributed(step.relation)
       AND coalesce((SELECT bool_and(l.is_plain AND hotmesh_dba._is_like_parent(l.leaf, step.relation, step.name))
                     FROM hotmesh_dba._leaves(step.relation) l), false)
$$;

-- The lanes of one step, a row a table to work in.
CREATE OR REPLACE FUNCTION hotmesh_dba._lanes(step hotmesh_dba._step, disable_triggers boolean)
RETURNS SETOF hotmesh_dba._lane
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH works AS MATERIALIZED (
        SELECT hotmesh_dba._works_in_leaves(step) AS in_leaves
    ), place AS (
        SELECT l.number, l.leaf AS relation, coalesce(a.leaf, step.attributes) AS attributes, true AS is_leaf
        FROM works w
        CROSS JOIN hotmesh_dba._leaves(step.relation) l
        LEFT JOIN hotmesh_dba._attribute_leaves(step) a ON a.remainder = l.remainder
        WHERE w.in_leaves
        UNION ALL
        SELECT 0, step.relation, step.attributes, false FROM works w WHERE NOT w.in_leaves
    )
    SELECT step, p.number, p.relation, p.attributes, p.is_leaf, false,
           step.name = 'strip' OR hotmesh_dba._may_lock(p.relation), step.name = 'strip',
           disable_triggers AND step.attributes IS NOT NULL, false,
           NULL::text, NULL::bigint, NULL::int, '(0,0)'::tid, '-infinity'::timestamptz, NULL::uuid[],
           step.name = 'strip', '{}'::text[], NULL::bigint, 0, 0, 0, 0, 0, false, 0
    FROM place p
    ORDER BY p.number
$$;

-- Is there still such a table? Whatever the snapshot: what has_table_privilege says of one that was dropped is NULL.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_there(relation regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN has_table_privilege(relation, 'SELECT') IS NOT NULL; END $$;

-- Still a part of that table? One that was detached since is no longer the app's: somebody keeps it.
-- (pg_partition_ancestors knows what was committed last in any isolation; it knows only partitions.)
CREATE OR REPLACE FUNCTION hotmesh_dba._is_part_of(relation regclass, root regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF relation = root THEN
        RETURN hotmesh_dba._is_there(root);
    END IF;
    RETURN root IN (SELECT p FROM pg_partition_ancestors(relation) p)
        OR (SELECT c.relkind = 'r' FROM pg_class c WHERE c.oid = root)
       AND relation IN (SELECT t FROM hotmesh_dba._tree(root) t);
END
$$;

-- Which rows of a table one of its own partitions has; NULL where that is not by HASH, or it is none.
CREATE OR REPLACE FUNCTION hotmesh_dba._remainder_of(partition regclass, parent regclass) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT hotmesh_dba._remainder(c.relpartbound::text)
            FROM pg_inherits h
            JOIN pg_class c ON c.oid = h.inhrelid
            WHERE h.inhrelid = partition AND h.inhparent = parent AND NOT h.inhdetachpending);
END
$$;

-- Do all attributes of the lane's jobs still stand where it was planned, and may that leaf be worked in?
CREATE OR REPLACE FUNCTION hotmesh_dba._attributes_stand(lane hotmesh_dba._lane) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (lane).attributes IS NOT DISTINCT FROM ((lane).step).attributes
        OR coalesce(hotmesh_dba._remainder_of((lane).relation, ((lane).step).relation)
                    = hotmesh_dba._remainder_of((lane).attributes, ((lane).step).attributes), false)
       AND hotmesh_dba._is_like_parent((lane).attributes, ((lane).step).attributes, 'attributes');
END
$$;

-- The lane as it may go on: rights, policies, triggers, rules and leaves may have changed since it was planned. Where its
-- leaf may not be worked in any more, it goes through the parent.
CREATE OR REPLACE FUNCTION hotmesh_dba._renewed(lane hotmesh_dba._lane) RETURNS hotmesh_dba._lane
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT hotmesh_dba._is_like_parent((lane).relation, ((lane).step).relation, ((lane).step).name) THEN
        lane.relation := ((lane).step).relation;
        lane.attributes := ((lane).step).attributes;
        lane.is_leaf := false;
        lane.way := NULL;
        lane.next_tid := '(0,0)';
        lane.next_mark := '-infinity';
        lane.queue := NULL;
    ELSIF NOT hotmesh_dba._attributes_stand(lane) THEN
        lane.attributes := ((lane).step).attributes;
    END IF;
    lane.may_lock := ((lane).step).name = 'strip' OR hotmesh_dba._may_lock((lane).relation);
    RETURN lane;
END
$$;

-- Asked behind a statement, whose locks by now keep its tables as they are: where they were changed before, it is undone,
-- gives way as to a lock, and the lane is renewed; where the role has lost a right to the table itself, the step fails.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_stands(lane hotmesh_dba._lane) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM hotmesh_dba._check_step_privileges((lane).step, true);
    IF NOT hotmesh_dba._is_part_of((lane).relation, ((lane).step).relation)
       OR NOT hotmesh_dba._is_like_parent((lane).relation, ((lane).step).relation, ((lane).step).name)
       OR NOT hotmesh_dba._attributes_stand(lane)
    THEN
        RAISE lock_not_available USING MESSAGE = format('table %s has changed', (lane).relation);
    END IF;
END
$$;

-- Messages or signals of which few are due, as one lane of the whole table: its parent sees to its own rights, policies
-- and triggers, and one statement costs a fraction of one a leaf.
CREATE OR REPLACE FUNCTION hotmesh_dba._sweep_lane(step hotmesh_dba._step, due bigint) RETURNS hotmesh_dba._lane
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_lane hotmesh_dba._lane;
BEGIN
    v_lane.step := step;
    v_lane.number := 0;
    v_lane.relation := step.relation;
    v_lane.is_leaf := false;
    v_lane.sweeps := true;
    v_lane.may_lock := false;
    v_lane.careful := false;
    v_lane.triggers_off := false;
    v_lane.by_hand := false;
    v_lane.way := 'index';
    v_lane.due := due;
    v_lane.spares := false;
    v_lane.skip := '{}';
    v_lane.setbacks := 0;
    v_lane.locked := 0;
    v_lane.given_up := 0;
    v_lane.passes := 0;
    v_lane.taken := 0;
    v_lane.finished := false;
    v_lane.faults := 0;
    RETURN v_lane;
END
$$;
