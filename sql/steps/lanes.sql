-- Where a step works. In the leaf partitions, one by one: there a ctid names one row, and no statement has to find its partition. But rights,
-- policies and statement triggers of the parent are not asked on a leaf; where that could make a difference, and
-- where Citus keeps the leaves elsewhere, the step works on the parent, by key.

CREATE OR REPLACE FUNCTION hotmesh_dba._may_lock(relation regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    -- Under row-level security locking wants a policy for UPDATE as well.
    SELECT has_any_column_privilege(relation, 'UPDATE') AND NOT row_security_active(relation)
$$;

-- Would a DELETE or UPDATE of the parent fire statement triggers, which one of a leaf does not?
CREATE OR REPLACE FUNCTION hotmesh_dba._has_statement_trigger(relation regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_trigger t
                   WHERE t.tgrelid = relation AND t.tgenabled <> 'D'
                     AND t.tgtype & 1 = 0 AND t.tgtype & (8 | 16) > 0)   -- not FOR EACH ROW; DELETE or UPDATE
$$;

-- May this role do on the leaf what it may do on the parent, with the same effect?
CREATE OR REPLACE FUNCTION hotmesh_dba._is_like_parent(leaf regclass, parent regclass, step_name text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leaf = parent
        OR has_table_privilege(leaf, 'SELECT')
       AND CASE WHEN step_name = 'strip' THEN has_column_privilege(leaf, 'pruned_at', 'UPDATE')
                ELSE has_table_privilege(leaf, 'DELETE') END
       AND hotmesh_dba._may_lock(leaf) >= hotmesh_dba._may_lock(parent)
       AND NOT row_security_active(parent) AND NOT row_security_active(leaf)
$$;

-- The plain tables at the ends of a partition tree, numbered. A foreign table there (relkind f) has no pages of ours.
CREATE OR REPLACE FUNCTION hotmesh_dba._leaves(root regclass)
RETURNS TABLE (leaf regclass, number int, remainder text, is_plain boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.relation, (row_number() OVER (ORDER BY t.relation::oid))::int - 1,
           -- Not by pg_get_expr: it waits for whoever has locked the table.
           substring(c.relpartbound::text FROM ':strategy h .*(:modulus \d+ :remainder \d+)'),
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
      AND NOT hotmesh_dba._has_statement_trigger(step.attributes)
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
       AND NOT hotmesh_dba._has_statement_trigger(step.relation)
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
