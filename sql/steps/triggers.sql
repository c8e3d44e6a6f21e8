-- The fast path: with session_replication_role = replica a statement fires no trigger, neither the foreign key's
-- cascade (the attributes are then deleted by one statement of ours, in half the time) nor HotMesh's own on a mark.

-- What stands in the way of it, as one error: which condition fails and what would allow it.
CREATE OR REPLACE FUNCTION hotmesh_dba._raise_no_fast_path(sqlstate_of text, detail text, hint text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'cannot disable triggers'
        USING ERRCODE = sqlstate_of, DETAIL = detail, HINT = hint || ' Or prune without disable_triggers.';
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._may_disable_triggers() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_may boolean := (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user);
BEGIN
    IF NOT v_may AND current_setting('server_version_num')::int >= 150000 THEN
        EXECUTE 'SELECT pg_catalog.has_parameter_privilege(''session_replication_role'', ''SET'')' INTO v_may;
    END IF;
    RETURN v_may;
END
$$;

-- A trigger that is not one of HotMesh's would be left out too, and one that is ENABLE REPLICA would fire; as with rules.
CREATE OR REPLACE FUNCTION hotmesh_dba._unknown_triggers(jobs regclass, attributes regclass) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH tree (relation) AS (
        SELECT hotmesh_dba._tree(jobs) UNION ALL SELECT hotmesh_dba._tree(attributes)
    ), unknown (name, relation) AS (
        SELECT t.tgname, t.tgrelid
        FROM tree r
        -- PostgreSQL 14 calls what a leaf has from its parent internal; a foreign key's have a constraint.
        JOIN pg_trigger t ON t.tgrelid = r.relation AND (NOT t.tgisinternal OR t.tgconstraint = 0)
        WHERE t.tgname NOT IN ('trg_update_is_live', 'trg_enforce_live_job_uniqueness', 'trg_update_jobs_updated_at',
                               'trg_update_attributes_updated_at')
           OR t.tgenabled IN ('R', 'A')
        UNION ALL
        SELECT w.rulename, w.ev_class
        FROM tree r
        JOIN pg_rewrite w ON w.ev_class = r.relation AND w.ev_type IN ('2', '4') AND w.ev_enabled <> 'D'
    )
    SELECT string_agg(DISTINCT format('%I on %s', u.name, u.relation::regclass), ', ')
    FROM unknown u
$$;

-- Foreign keys that hang on either table, the one from attributes to jobs aside: they would not be looked after.
CREATE OR REPLACE FUNCTION hotmesh_dba._unknown_keys(jobs regclass, attributes regclass) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format('%I on %s', c.conname, c.conrelid::regclass), ', ')
    FROM pg_constraint c
    WHERE c.contype = 'f' AND c.conparentid = 0
      AND c.confrelid IN (SELECT hotmesh_dba._tree(jobs) UNION ALL SELECT hotmesh_dba._tree(attributes))
      AND NOT (c.conrelid = attributes AND c.confrelid = jobs)
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_fast_path(step hotmesh_dba._step) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_keys     int := (SELECT count(*) FROM pg_constraint c
                       WHERE c.contype = 'f' AND c.conrelid = step.attributes AND c.confrelid = step.relation
                         AND c.conparentid = 0);
    v_triggers text := hotmesh_dba._unknown_triggers(step.relation, step.attributes);
    v_others   text := hotmesh_dba._unknown_keys(step.relation, step.attributes);
BEGIN
    IF NOT hotmesh_dba._may_disable_triggers() THEN
        PERFORM hotmesh_dba._raise_no_fast_path('42501', format('Role "%s" may not set session_replication_role.', current_user),
            format('As a superuser, from PostgreSQL 15 on: GRANT SET ON PARAMETER session_replication_role TO %I;', current_user));
    ELSIF NOT hotmesh_dba._is_read_committed() THEN
        PERFORM hotmesh_dba._raise_no_fast_path('25001', 'In this isolation attributes that were committed meanwhile would become orphans.',
            'Call it in a transaction begun with BEGIN ISOLATION LEVEL READ COMMITTED.');
    ELSIF v_triggers IS NOT NULL THEN
        PERFORM hotmesh_dba._raise_no_fast_path('55000', format('Triggers or rules that are not HotMesh''s would not fire, or would: %s.', v_triggers),
            'Drop them, if nobody needs them.');
    ELSIF v_keys <> 1 OR v_others IS NOT NULL THEN
        PERFORM hotmesh_dba._raise_no_fast_path('55000', format('Foreign keys would not be looked after: %s.',
                coalesce(v_others, format('%s of them lead from %s to %s', v_keys, step.attributes, step.relation))),
            'Drop them, if nobody needs them.');
    ELSIF NOT hotmesh_dba._may_lock(step.relation) THEN
        PERFORM hotmesh_dba._raise_no_fast_path('42501', format('Role "%s" cannot lock rows of %s.', current_user, step.relation),
            format('GRANT UPDATE (pruned_at) ON %s TO %I; and no row-level security for it.', step.relation, current_user));
    ELSIF hotmesh_dba._is_distributed(step.relation) THEN
        PERFORM hotmesh_dba._raise_no_fast_path('0A000', 'The app''s schema is distributed by Citus, and the setting stays on this node.',
            'There is no way around it.');
    END IF;
    PERFORM hotmesh_dba._check_privilege(step.attributes, 'SELECT');
    PERFORM hotmesh_dba._check_privilege(step.attributes, 'DELETE');
    PERFORM hotmesh_dba._check_sees_all(step.attributes, 'disable triggers');
END
$$;

-- Switches triggers off, or back to what was; returns what was. Whoever calls it undoes it in the same routine; an
-- error is undone by its subtransaction. Nothing of it may outlast a step: the caller's transaction goes on.
CREATE OR REPLACE FUNCTION hotmesh_dba._set_replication_role(role text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_was text := current_setting('session_replication_role');
BEGIN
    IF role <> v_was THEN
        PERFORM set_config('session_replication_role', role, true);
    END IF;
    RETURN v_was;
END
$$;

-- The trigger that recomputes is_live on every write: where it is switched off we do its work.
CREATE OR REPLACE FUNCTION hotmesh_dba._has_live_trigger(jobs regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_trigger t
                   WHERE t.tgrelid = jobs AND t.tgname = 'trg_update_is_live' AND t.tgenabled IN ('O', 'A'))
$$;
