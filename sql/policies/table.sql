-- What an app's owner wants removed, and when. set_policy writes it, resolved; whoever reads it checks it again.
CREATE TABLE hotmesh_dba.policy (
    app                      name        NOT NULL,
    name                     text        NOT NULL CHECK (name COLLATE "C" ~ '^[A-Za-z0-9_.-]{1,63}$'),
    retention                interval,
    prune_jobs               boolean     NOT NULL,
    prune_streams            boolean     NOT NULL,
    strip_attributes         boolean     NOT NULL,
    entity_list              text[],
    prune_transient          boolean     NOT NULL,
    keep_hmark               boolean     NOT NULL,
    prune_engine_streams     boolean     NOT NULL,
    prune_worker_streams     boolean     NOT NULL,
    engine_streams_retention interval,
    worker_streams_retention interval,
    prune_signals            boolean     NOT NULL,
    batch_size               int,
    batch_time               interval    NOT NULL,
    batch_pause              interval    NOT NULL,
    max_runtime              interval,
    max_rows                 bigint,
    disable_triggers         boolean     NOT NULL,
    max_wal_rate             bigint,
    max_replica_lag          interval,
    max_percent              numeric     NOT NULL,
    every                    interval    CHECK (every >= '1 second' AND every <= '10 years'
                                               AND extract(year FROM every) >= 0 AND extract(month FROM every) >= 0
                                               AND extract(day FROM every) >= 0 AND extract(hour FROM every) >= 0
                                               AND extract(minute FROM every) >= 0 AND extract(second FROM every) >= 0),
    enabled                  boolean     NOT NULL,
    note                     text,
    role                     name        NOT NULL DEFAULT current_user,
    created_at               timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated_at               timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    app_oid                  oid         NOT NULL,
    origin                   text        NOT NULL,
    owner                    oid         NOT NULL,
    PRIMARY KEY (origin, app_oid, name)
);

COMMENT ON TABLE hotmesh_dba.policy IS
'What is removed from an app, and how often: made by set_policy, run by run_policy and run_due. You see the policies of apps whose owner you are a member of. Dumped and restored with the database.';
COMMENT ON COLUMN hotmesh_dba.policy.app IS 'Name of the app schema; where that was renamed, the name that it had when the policy was last used.';
COMMENT ON COLUMN hotmesh_dba.policy.name IS 'Name of the policy: letters, digits, _, . and -; unique in its app.';
COMMENT ON COLUMN hotmesh_dba.policy.retention IS 'Window of jobs and transient jobs, and of messages without one of their own; NULL where no step needs it.';
COMMENT ON COLUMN hotmesh_dba.policy.prune_jobs IS 'Whether expired jobs go.';
COMMENT ON COLUMN hotmesh_dba.policy.prune_streams IS 'Whether messages go, as it was asked for; the next two columns say which.';
COMMENT ON COLUMN hotmesh_dba.policy.strip_attributes IS 'Whether completed jobs lose their execution artifacts.';
COMMENT ON COLUMN hotmesh_dba.policy.entity_list IS 'Entities that jobs and the strip are confined to; NULL: all.';
COMMENT ON COLUMN hotmesh_dba.policy.prune_transient IS 'Whether expired jobs without an entity go.';
COMMENT ON COLUMN hotmesh_dba.policy.keep_hmark IS 'Whether the strip spares attributes of type hmark.';
COMMENT ON COLUMN hotmesh_dba.policy.prune_engine_streams IS 'Whether engine messages go.';
COMMENT ON COLUMN hotmesh_dba.policy.prune_worker_streams IS 'Whether worker messages go.';
COMMENT ON COLUMN hotmesh_dba.policy.engine_streams_retention IS 'Window of engine messages; NULL where they stay.';
COMMENT ON COLUMN hotmesh_dba.policy.worker_streams_retention IS 'Window of worker messages; NULL where they stay.';
COMMENT ON COLUMN hotmesh_dba.policy.prune_signals IS 'Whether expired signals go.';
COMMENT ON COLUMN hotmesh_dba.policy.batch_size IS 'Rows a transaction; NULL: as many as take batch_time.';
COMMENT ON COLUMN hotmesh_dba.policy.batch_time IS 'How long a transaction should take.';
COMMENT ON COLUMN hotmesh_dba.policy.batch_pause IS 'How long to wait between two.';
COMMENT ON COLUMN hotmesh_dba.policy.max_runtime IS 'A run stops after this time; NULL: no limit.';
COMMENT ON COLUMN hotmesh_dba.policy.max_rows IS 'A run stops after this many rows; NULL: no limit.';
COMMENT ON COLUMN hotmesh_dba.policy.disable_triggers IS 'Whether jobs are deleted and marked with triggers off.';
COMMENT ON COLUMN hotmesh_dba.policy.max_wal_rate IS 'Bytes of WAL a second; NULL: no limit.';
COMMENT ON COLUMN hotmesh_dba.policy.max_replica_lag IS 'A run waits while a replica is further behind; NULL: no limit.';
COMMENT ON COLUMN hotmesh_dba.policy.max_percent IS 'The fuse: a run that would delete more than so much of a table stops before its first row; 100: none.';
COMMENT ON COLUMN hotmesh_dba.policy.every IS 'How often run_due runs it; NULL: never.';
COMMENT ON COLUMN hotmesh_dba.policy.enabled IS 'Whether it runs, unless forced.';
COMMENT ON COLUMN hotmesh_dba.policy.note IS 'Whatever its owner wrote.';
COMMENT ON COLUMN hotmesh_dba.policy.role IS 'The role that owned the app''s table jobs, in whose name it was set by whoever may.';
COMMENT ON COLUMN hotmesh_dba.policy.created_at IS 'When it was first set.';
COMMENT ON COLUMN hotmesh_dba.policy.updated_at IS 'When it was last set.';
COMMENT ON COLUMN hotmesh_dba.policy.app_oid IS 'The app schema''s oid in the database of origin: a policy follows its app when that is renamed, and no other app that takes its name.';
COMMENT ON COLUMN hotmesh_dba.policy.origin IS 'The database in which app_oid and owner are true; in a restored copy the names count.';
COMMENT ON COLUMN hotmesh_dba.policy.owner IS 'The oid of the role that owned the app''s table jobs when the policy was set: of another owner''s app it removes nothing.';

ALTER TABLE hotmesh_dba.policy ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON hotmesh_dba.policy TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('hotmesh_dba.policy', '');
