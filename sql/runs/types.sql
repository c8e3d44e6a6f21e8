-- A run at work, as the procedure carries it from batch to batch.
CREATE TYPE hotmesh_dba._run AS (
    id              bigint,
    app             name,
    schema_oid      oid,            -- of the app, whatever it is called by now
    worker          int,
    workers         int,
    steps           hotmesh_dba._step[],
    lanes           hotmesh_dba._lane[],    -- NULL until they are planned
    current         int,            -- of the lanes
    batch_size      int,
    batch_time      interval,
    batch_pause     interval,
    ends_at         timestamptz,    -- max_runtime
    max_rows        bigint,
    max_wal_rate    bigint,
    max_replica_lag interval,
    disable_triggers boolean,
    taken           bigint,         -- rows so far
    resume_at       timestamptz,    -- no batch before
    replay_lsn      pg_lsn,         -- what every replica must have replayed max_replica_lag after
    replay_since    timestamptz,
    failed_steps    text[],
    sqlstate        text,           -- of the first error
    message         text,
    detail          text,
    hint            text,
    remaining       bigint,
    stop_reason     text,
    ended           boolean,
    max_percent     numeric,        -- the fuse, until it has looked at the steps
    isolated        boolean         -- one of a round: nothing that it meets may end the round
);
