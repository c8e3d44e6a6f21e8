"""A plain install does the same, with one difference: whoever installed it can change it."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Database, NewDatabase, NewRole
from tests.deploy.calls import CALLS, RESULT
from tests.deploy.observe import Refusal, catalogue, deploy, refused, run, state, undeploy
from tests.deploy.plain import install_plain
from tests.support.layout import create_app
from tests.support.server import Connection


@pytest.fixture
def bare(new_database: NewDatabase) -> Database:
    """A database without the extension."""
    return new_database()


def own(database: Database, *roles: str) -> None:
    """Let roles create schemas in the database."""
    with database.connect() as admin:
        for role in roles:
            run(admin, f"GRANT CREATE ON DATABASE {database.name} TO {role}")


def surface(conn: Connection) -> list[tuple[object, ...]]:
    return catalogue(conn, "hotmesh_dba", transactions=False)


def test_it_can_be_run_again(bare: Database, role: NewRole) -> None:
    installer = role("installer")
    own(bare, installer)
    with bare.connect(installer) as conn:
        install_plain(conn)
        before = surface(conn)
        create_app(conn, "myapp", "mixture")
        deploy(conn, "myapp")
        install_plain(conn)
        assert surface(conn) == before
        assert state(conn, "myapp") == ("ours", True, True)
        assert deploy(conn, "myapp") == []
        for call in CALLS.values():
            cursor = conn.execute(call.format("myapp").encode())
            assert tuple(column.name for column in cursor.description or ()) == RESULT
        assert [action.action for action in undeploy(conn, "myapp")] == ["dropped"]


def test_another_owners_app_is_deployed_on_its_word_alone(bare: Database, role: NewRole) -> None:
    installer, owner = role("installer"), role("owner")
    own(bare, installer, owner)
    with bare.connect(installer) as conn:
        install_plain(conn)
        create_app(conn, "mine")
        assert deploy(conn, "mine")
    with bare.connect(owner) as conn:
        create_app(conn, "theirs", "mixture")
        before = catalogue(conn, "theirs")
        refusal = refused(conn, "42501", "SELECT * FROM hotmesh_dba.deploy('theirs')")
        assert installer in refusal.detail
        assert catalogue(conn, "theirs") == before
        refused(conn, "42501", "SELECT * FROM hotmesh_dba.deploy('theirs', NULL)")
        # The hint is what to type.
        typed = refusal.hint[refusal.hint.index("SELECT") :]
        assert run(conn, typed)
        assert state(conn, "theirs") == ("ours", True, True)
        assert run(conn, "SELECT * FROM theirs.prune('7 days', true, true, true)") == [(0,) * 8]


def test_a_superusers_install_is_trusted(bare: Database, role: NewRole) -> None:
    owner = role("owner")
    own(bare, owner)
    with bare.connect() as conn:
        install_plain(conn)
    with bare.connect(owner) as conn:
        create_app(conn, "myapp")
        assert deploy(conn, "myapp")


def test_it_takes_no_schema_of_somebody_else(bare: Database, role: NewRole) -> None:
    squatter, installer = role("squatter"), role("installer")
    own(bare, squatter, installer)
    with bare.connect(squatter) as conn:
        run(conn, "CREATE SCHEMA hotmesh_dba")
    with bare.connect(installer) as conn:
        refusal_code = "42501"
        with pytest.raises(Exception, match="belongs to somebody else") as caught:
            install_plain(conn)
        assert getattr(caught.value, "sqlstate", None) == refusal_code
        run(conn, "ROLLBACK")
        assert surface(conn) != []
        assert (
            run(conn, "SELECT 1 FROM pg_proc WHERE pronamespace = 'hotmesh_dba'::regnamespace")
            == []
        )


def test_it_does_not_stand_beside_the_extension(new_database: NewDatabase, template: str) -> None:
    with new_database(template).connect() as conn:
        before = surface(conn)
        with pytest.raises(Exception, match="extension hotmesh_dba is installed") as caught:
            install_plain(conn)
        assert getattr(caught.value, "sqlstate", None) == "42710"
        run(conn, "ROLLBACK")
        assert surface(conn) == before
    with new_database().connect() as conn:
        install_plain(conn)
        with pytest.raises(Exception, match="already exists") as caught:
            run(conn, "CREATE EXTENSION hotmesh_dba")
        assert getattr(caught.value, "sqlstate", None) == "42P06"


# What whoever owns a part of an install can make of version(): it leaves a trace of who ran it.
HOSTILE_VERSION = """
CREATE OR REPLACE FUNCTION hotmesh_dba.version() RETURNS text LANGUAGE sql AS $$
    INSERT INTO public.ran VALUES (current_user); SELECT '1.0.0'; $$
"""
WITNESS = "CREATE TABLE public.ran (who text); GRANT INSERT ON public.ran TO PUBLIC"


def refuses_to_install(conn: Connection) -> Refusal:
    """The script is refused for want of a right, says why, and has left nothing behind."""
    with pytest.raises(Exception, match="belongs to somebody else") as caught:
        install_plain(conn)
    run(conn, "ROLLBACK")
    assert isinstance(caught.value, psycopg.errors.InsufficientPrivilege)
    diag = caught.value.diag
    said = Refusal("42501", diag.message_primary or "", diag.message_detail or "", "")
    assert diag.message_hint
    return said


@pytest.mark.parametrize("own_schema", [True, False], ids=["schema", "version() alone"])
def test_a_superuser_runs_nothing_of_a_strangers(
    bare: Database, role: NewRole, own_schema: bool
) -> None:
    """The script would call that role's version() with all of its own rights."""
    stranger = role("stranger")
    own(bare, stranger)
    with bare.connect() as admin:
        run(admin, WITNESS)
        if own_schema:
            with bare.connect(stranger) as conn:
                install_plain(conn)
        else:
            install_plain(admin)
            run(admin, f"ALTER FUNCTION hotmesh_dba.version() OWNER TO {stranger}")
            run(admin, f"GRANT CREATE ON SCHEMA hotmesh_dba TO {stranger}")
        with bare.connect(stranger) as conn:
            run(conn, HOSTILE_VERSION)
            run(conn, "SELECT hotmesh_dba.version()")
        assert run(admin, "DELETE FROM public.ran RETURNING who") == [(stranger,)], "the trap works"
        before = surface(admin)
        refusal = refuses_to_install(admin)
        assert stranger in refusal.detail
        assert surface(admin) == before
        assert run(admin, "SELECT who FROM public.ran") == []


def test_another_superuser_and_a_member_run_it_again(bare: Database, role: NewRole) -> None:
    chief, team, member = role("chief", "LOGIN SUPERUSER"), role("team"), role("member")
    with bare.connect() as admin:
        install_plain(admin)
        with bare.connect(chief) as conn:
            install_plain(conn)
        run(admin, f"DROP SCHEMA hotmesh_dba CASCADE; GRANT {team} TO {member}")
    own(bare, team)
    with bare.connect(team) as conn:
        install_plain(conn)
    with bare.connect(member) as conn:
        install_plain(conn)


def test_a_member_runs_nothing_of_a_strangers(bare: Database, role: NewRole) -> None:
    installer, stranger = role("installer"), role("stranger")
    own(bare, installer)
    with bare.connect(installer) as conn, bare.connect() as admin:
        run(admin, WITNESS)
        install_plain(conn)
        run(conn, f"GRANT CREATE ON SCHEMA hotmesh_dba TO {stranger}")
        run(admin, f"ALTER FUNCTION hotmesh_dba.version() OWNER TO {stranger}")
        with bare.connect(stranger) as theirs:
            run(theirs, HOSTILE_VERSION)
        assert stranger in refuses_to_install(conn).detail
        assert run(admin, "SELECT who FROM public.ran") == []


def test_an_overload_of_a_strangers_is_refused_too(bare: Database, role: NewRole) -> None:
    stranger = role("stranger")
    with bare.connect() as admin:
        install_plain(admin)
        run(admin, f"GRANT CREATE ON SCHEMA hotmesh_dba TO {stranger}")
        with bare.connect(stranger) as conn:
            run(conn, "CREATE FUNCTION hotmesh_dba._jobs(text) RETURNS int RETURN 1")
        assert stranger in refuses_to_install(admin).detail
