-- A run at work, as the procedure carries it from batch to batch.
CREATE TYPE hotmesh_dba._run AS (
    id              bigint,
    app             name,
    worker          int,
    workers         int,
    lanes           hotmesh_dba._lane[],
    current         int,            -- of the lanes
    batch_size      int,
    batch_time      interval,
    batch_pause     interval,
    ends_at         timestamptz,    -- max_runtime
    max_rows        bigint,
    max_wal_rate    bigint,
    max_replica_lag interval,
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
    fuse            hotmesh_dba._step[],    -- what the fuse has still to look at
    max_percent     numeric
);
