"""The strip as the original does it: two statements, each with its own predicate and snapshot.

Every fault that a test guards against is first shown on this form, or the test would prove little.
"""

from __future__ import annotations

from tests.deploy.observe import run
from tests.support.server import Connection

NAIVE = """
CREATE FUNCTION public.naive_strip() RETURNS TABLE (stripped bigint, marked bigint)
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM myapp.jobs_attributes a USING myapp.jobs j
   WHERE j.id = a.job_id AND j.status = 0 AND j.is_live AND j.pruned_at IS NULL
     AND a.type NOT IN ('jdata', 'udata', 'jmark');
  GET DIAGNOSTICS stripped = ROW_COUNT;
  UPDATE myapp.jobs SET pruned_at = now() WHERE status = 0 AND is_live AND pruned_at IS NULL;
  GET DIAGNOSTICS marked = ROW_COUNT;
  RETURN NEXT;
END
$$
"""

NAIVE_STRIP = "SELECT stripped, marked FROM public.naive_strip()"
OUR_STRIP = (
    "SELECT stripped_attributes, marked_pruned"
    " FROM myapp.prune('7 days', false, false, true, prune_signals => false)"
)

# Attributes that a mark says are gone: once marked, no strip ever comes by again.
LEAKED = """
SELECT count(*) FROM myapp.jobs_attributes a JOIN myapp.jobs j ON j.id = a.job_id
WHERE j.pruned_at IS NOT NULL AND a.type NOT IN ('jdata', 'udata', 'jmark')
"""


def add_job(
    conn: Connection, key: str, status: int = 0, attributes: int = 3, beside: str | None = None
) -> str:
    """A live job with that many attributes to strip; its id.

    With `beside`, in the same partition as that job: a strip takes one partition after the other.
    """
    insert = "INSERT INTO myapp.jobs (key, status) VALUES (%s, %s) RETURNING id::text, tableoid"
    ((job, leaf),) = run(conn, insert, key, status)
    while beside and run(conn, "SELECT tableoid FROM myapp.jobs WHERE id = %s", beside) != [
        (leaf,)
    ]:
        run(conn, "DELETE FROM myapp.jobs WHERE id = %s", job)
        ((job, leaf),) = run(conn, insert, key, status)
    run(
        conn,
        "INSERT INTO myapp.jobs_attributes (job_id, symbol, type)"
        " SELECT %s, 'a' || n, 'adata' FROM generate_series(1, %s) n",
        job,
        attributes,
    )
    return str(job)
