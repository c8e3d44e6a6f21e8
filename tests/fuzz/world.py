"""An app with a little of everything, its policy, and a neighbour: all that a call could change."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.deploy.observe import Row, deploy, run, tables, wait_until
from tests.policies.calls import set_policy
from tests.runs.work import Work, add_work
from tests.support.layout import create_app
from tests.support.server import Connection

LITTLE = Work(jobs=4, transient=2, live=3, engine=3, worker=2, signals=2)
APPS = ("myapp", "neighbour")

# What nothing may remove, whatever is asked for: a job that has not expired, what it resulted in,
# a message that is not processed, a signal that is still good.
KEPT = """
SELECT (SELECT array_agg(j.id ORDER BY j.id) FROM {0}.jobs j
         WHERE j.expired_at IS NULL OR j.expired_at > now()),
       (SELECT array_agg(a.job_id ORDER BY a.job_id)
          FROM {0}.jobs_attributes a JOIN {0}.jobs j ON j.id = a.job_id
         WHERE a.type = 'jdata' AND (j.expired_at IS NULL OR j.expired_at > now())),
       (SELECT count(*) FROM {0}.engine_streams WHERE expired_at IS NULL),
       (SELECT count(*) FROM {0}.worker_streams WHERE expired_at IS NULL),
       (SELECT count(*) FROM {0}.signal_registry WHERE expiry IS NULL OR expiry > now())
"""
# Whose they are stands in the row.
OF_APP = """
SELECT '{0}', count(*), sum(hashtextextended(t.xmin || ' ' || t.ctid, 0))
FROM hotmesh_dba.{0} t WHERE t.app = '{1}'
"""
# A row says which transaction wrote it: whatever is written anew shows.
FINGERPRINT = """
SELECT '{0}', count(*), sum(hashtextextended(t.xmin || ' ' || t.ctid || t.tableoid, 0)) FROM {0} t
"""
OBJECTS = """
SELECT 'objects', count(*), sum(hashtextextended(o.written, 0))
FROM (SELECT n.oid || ' ' || n.xmin FROM pg_namespace n
      UNION ALL SELECT c.oid || ' ' || c.xmin FROM pg_class c
      UNION ALL SELECT a.attrelid || ' ' || a.attnum || ' ' || a.xmin FROM pg_attribute a
      UNION ALL SELECT p.oid || ' ' || p.xmin FROM pg_proc p
      UNION ALL SELECT d.oid || ' ' || d.xmin FROM pg_default_acl d
      UNION ALL SELECT t.oid || ' ' || t.xmin FROM pg_trigger t
      UNION ALL SELECT r.oid || ' ' || r.xmin FROM pg_authid r
      UNION ALL SELECT m.roleid || ' ' || m.member || ' ' || m.xmin FROM pg_auth_members m
     ) o (written)
"""
# Whoever left may have left a process behind, that only just hears of it.
AT_WORK = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend'
  AND pid <> pg_backend_pid() AND state IS DISTINCT FROM 'idle'
"""
# What a call might leave in its session.
SESSION = """
SELECT current_user::text, current_setting('search_path'), current_setting('lock_timeout'),
       current_setting('session_replication_role'), current_setting('enable_seqscan'),
       current_setting('default_transaction_isolation'),
       (SELECT count(*) FROM pg_locks l WHERE l.pid = pg_backend_pid() AND l.locktype = 'advisory')
"""


@dataclass
class World:
    """A superuser's view of it."""

    admin: Connection
    owner: str
    changed: bool = field(default=True)
    _tables: dict[str, list[str]] = field(default_factory=dict)

    def build(self) -> None:
        """Make the apps, once; pg_cron is said to be in another database."""
        run(self.admin, """ALTER DATABASE fuzz SET "cron.database_name" = 'elsewhere'""")
        run(self.admin, f"CREATE ROLE pruner; GRANT pg_read_all_stats TO {self.owner}")
        for app in APPS:
            create_app(self.admin, app, owner=self.owner)
            deploy(self.admin, app)
            self._tables[app] = tables(self.admin, app)
        self.renew()

    def renew(self) -> None:
        """Put back whatever earlier calls have changed."""
        wait_until("every call has ended", lambda: run(self.admin, AT_WORK) == [])
        if not self.changed:
            return
        run(self.admin, "DELETE FROM hotmesh_dba.run; DELETE FROM hotmesh_dba.policy")
        for app in APPS:
            for table in reversed(self._tables[app]):  # attributes before their jobs
                run(self.admin, f"DELETE FROM {app}.{table}")
            add_work(self.admin, app, LITTLE)
            set_policy(
                self.admin,
                "'7 days', prune_jobs => true, prune_signals => true, every => '1 day',"
                " max_percent => 100",
                app=app,
            )
        self.changed = False

    def everything(self) -> list[Row]:
        """All rows, objects and rights, by the transactions that wrote them."""
        ours = [f"hotmesh_dba.{table}" for table in ("policy", "run")]
        theirs = [f"{app}.{table}" for app in APPS for table in self._tables[app]]
        rows = " UNION ALL ".join(FINGERPRINT.format(table) for table in [*ours, *theirs])
        return sorted(run(self.admin, f"{rows} UNION ALL {OBJECTS}"), key=str)

    def neighbours(self, conn: Connection) -> list[Row]:
        """The other app's rows, policies and records: no call that names the one may touch them."""
        app = APPS[1]
        rows = [FINGERPRINT.format(f"{app}.{table}") for table in self._tables[app]]
        rows += [OF_APP.format(table, app) for table in ("policy", "run")]
        return sorted(run(conn, " UNION ALL ".join(rows)), key=str)

    def kept(self, conn: Connection) -> list[Row]:
        """What must still be there."""
        return [row for app in APPS for row in run(conn, KEPT.format(app))]
