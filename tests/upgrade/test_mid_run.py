"""ALTER EXTENSION UPDATE under a run: it goes on, and its record is true."""

from __future__ import annotations

import pytest

from tests.conftest import NewDatabase
from tests.deploy.observe import background, deploy, one, pid, run, wait_blocked
from tests.runs.work import (
    add_work,
    assert_true_to,
    due,
    hold_attribute,
    last,
    patient,
    rows,
    running,
)
from tests.support.layout import create_app

from .test_released import CREATE, UPDATE


@pytest.mark.parametrize("batch_size", ["5", "NULL"])
def test_a_run_of_1_1_0_goes_on(new_database: NewDatabase, batch_size: str) -> None:
    """What it carries from batch to batch was made by the older routines."""
    database = new_database()
    with (
        database.connect() as conn,
        database.connect() as holder,
        database.connect() as admin,
        database.connect() as caller,
    ):
        run(conn, CREATE.format("1.1.0"))
        create_app(conn, "myapp")
        deploy(conn, "myapp")
        add_work(conn)
        before, todo = rows(conn), due(conn)
        hold_attribute(holder)
        with running(patient(caller), f"batch_size => {batch_size}") as task:
            wait_blocked(conn, pid(caller), pid(holder))
            with background(admin, UPDATE) as update:
                wait_blocked(conn, pid(admin), pid(caller))
                run(holder, "ROLLBACK")
                update.result()
            task.result()
        assert one(conn, "SELECT hotmesh_dba.version()") != "1.1.0"
        done = last(conn)
        assert done.outcome == ("completed", None)
        assert (done.rows, due(conn)) == (todo, 0)
        assert_true_to(before, conn)
