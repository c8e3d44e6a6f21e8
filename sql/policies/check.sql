-- What a policy may say. Checked when it is set, and again before each run: a row may have come another way.

CREATE OR REPLACE FUNCTION hotmesh_dba._check_rule(ok boolean, message text, detail text, hint text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF ok IS NOT TRUE THEN
        RAISE EXCEPTION '%', message
            USING ERRCODE = 'invalid_parameter_value', DETAIL = detail || ' Nothing was changed.', HINT = hint;
    END IF;
END
$$;

-- A window is needed by what is on, and says nothing where it is off.
CREATE OR REPLACE FUNCTION hotmesh_dba._check_policy_windows(policy hotmesh_dba.policy) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rule record;
BEGIN
    FOR v_rule IN
        SELECT r.*
        FROM (VALUES ('prune_jobs', policy.prune_jobs, 'retention', policy.retention, false),
                     ('prune_transient', policy.prune_transient, 'retention', policy.retention, false),
                     ('prune_engine_streams', policy.prune_engine_streams, 'engine_streams_retention',
                      policy.engine_streams_retention, true),
                     ('prune_worker_streams', policy.prune_worker_streams, 'worker_streams_retention',
                      policy.worker_streams_retention, true)) r (step, wanted, option, retention, its_own)
    LOOP
        PERFORM hotmesh_dba._check_rule(NOT v_rule.wanted OR v_rule.retention IS NOT NULL,
            format('%s needs a window', v_rule.step), 'A policy has none unless it is said.',
            format('Give it one: %s => ''30 days''.', v_rule.option));
        PERFORM hotmesh_dba._check_rule(v_rule.wanted OR v_rule.retention IS NULL OR NOT v_rule.its_own,
            format('%s without %s', v_rule.option, v_rule.step), 'A window of messages that stay has no meaning.',
            format('Write %s => true, or leave out %s.', v_rule.step, v_rule.option));
        IF v_rule.retention IS NOT NULL THEN
            PERFORM hotmesh_dba._cutoff(v_rule.option, v_rule.retention);
        END IF;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_policy_steps(policy hotmesh_dba.policy) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM hotmesh_dba._check_rule(
        policy.prune_jobs OR policy.prune_transient OR policy.prune_engine_streams OR policy.prune_worker_streams
        OR policy.strip_attributes OR policy.prune_signals,
        'policy without a step', 'In a policy every step is off unless it is named.',
        'Name one: prune_jobs, prune_transient, prune_streams, prune_engine_streams, prune_worker_streams, strip_attributes or prune_signals => true.');
    PERFORM hotmesh_dba._check_policy_windows(policy);
    PERFORM hotmesh_dba._check_rule(
        policy.entity_list IS NULL OR policy.prune_jobs OR policy.strip_attributes,
        'entity_list without prune_jobs or strip_attributes', 'It confines these two alone, and neither is on.',
        'Write prune_jobs => true or strip_attributes => true, or leave out entity_list.');
    PERFORM hotmesh_dba._check_rule(
        policy.entity_list IS NULL OR cardinality(policy.entity_list) > 0 AND array_position(policy.entity_list, NULL) IS NULL,
        'entity_list is empty or has a NULL in it', 'No job has such an entity.',
        'Name entities: entity_list => ARRAY[''book'']; jobs without one go by prune_transient => true.');
    PERFORM hotmesh_dba._check_rule(
        NOT policy.keep_hmark OR policy.strip_attributes,
        'keep_hmark without strip_attributes', 'It says what the strip spares, and there is none.',
        'Write strip_attributes => true, or leave out keep_hmark.');
END
$$;

-- '1000000 years -359999999 days' is a day to every comparison, and no time at all to an addition.
CREATE OR REPLACE FUNCTION hotmesh_dba._is_of_one_sign(every interval) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT least(extract(year FROM every), extract(month FROM every), extract(day FROM every), extract(hour FROM every),
                 extract(minute FROM every), extract(second FROM every)) >= 0
$$;

CREATE OR REPLACE FUNCTION hotmesh_dba._check_policy(policy hotmesh_dba.policy) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM hotmesh_dba._check_rule(
        policy.name COLLATE "C" ~ '^[A-Za-z0-9_.-]{1,63}$', format('invalid policy name: %s', coalesce(quote_literal(policy.name), 'NULL')),
        'A name is made of 1 to 63 letters, digits, _, . and -.', 'Choose one such as ''nightly-strip''.');
    PERFORM hotmesh_dba._check_flag(f.name, f.value)
    FROM (VALUES ('prune_jobs', policy.prune_jobs), ('prune_streams', policy.prune_streams),
                 ('strip_attributes', policy.strip_attributes), ('prune_transient', policy.prune_transient),
                 ('keep_hmark', policy.keep_hmark), ('prune_signals', policy.prune_signals),
                 ('enabled', policy.enabled)) f (name, value);
    PERFORM hotmesh_dba._check_policy_steps(policy);
    PERFORM hotmesh_dba._check_knobs(
        policy.batch_size, policy.batch_time, policy.batch_pause, policy.max_runtime, policy.max_rows, 1, 1,
        policy.disable_triggers, policy.max_wal_rate, policy.max_replica_lag);
    PERFORM hotmesh_dba._check_knob(policy.max_percent > 0 AND policy.max_percent <= 100, 'max_percent', policy.max_percent::text,
                                    'above 0 and at most 100', '50');
    PERFORM hotmesh_dba._check_knob(coalesce(policy.every BETWEEN '1 second' AND '10 years' AND hotmesh_dba._is_of_one_sign(policy.every), true),
                                    'every', policy.every::text,
                                    'between a second and ten years, or NULL', '''1 day''');
END
$$;
