-- A round of run_due, as the procedure carries it from policy to policy.
CREATE TYPE hotmesh_dba._due AS (
    apps      name[],       -- of the policies whose turn is still to come
    names     text[],
    ends_at   timestamptz,  -- max_runtime
    app       name,         -- of the policy at work
    name      text,
    run       hotmesh_dba._run,
    runs      int,          -- begun, or failed before they could
    failed    int,
    postponed int,          -- for want of time
    busy      int,          -- whose app another run, or somebody's lock, held
    sqlstate  text,         -- of the first that failed
    failures  text[],
    ended     boolean
);
