-- A round of run_due, as the procedure carries it from policy to policy.
CREATE TYPE hotmesh_dba._due AS (
    waiting   hotmesh_dba.policy[],     -- those whose turn is still to come
    policy    hotmesh_dba.policy,       -- the one at work
    ends_at   timestamptz,  -- max_runtime
    run       hotmesh_dba._run,
    runs      int,          -- begun, or failed before they could
    failed    int,
    postponed int,          -- for want of time
    busy      int,          -- whose app another run, or somebody's lock, held
    others    int,          -- left to their apps' owners
    trust     boolean,      -- trust_owners
    role      text,         -- the session's setting: a trigger may have set another
    sqlstate  text,         -- of the first that failed
    failures  text[],
    ended     boolean
);
