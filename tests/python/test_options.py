"""The option list: one declaration, equal to the SQL signature, exact in its values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from hotmesh_dba import DBA, AsyncDBA, InvalidOption
from hotmesh_dba.options import BATCH_OPTIONS, BATCHED_OPTIONS, OPTIONS, arguments
from tests.support.server import Connection

# Parameters of the procedure that are no options: the app, and what a client fills in itself.
NOT_OPTIONS = ("app_id", "worker", "workers", "run_id")


def test_the_list_is_the_sql_signature(conn: Connection) -> None:
    rows = conn.execute(
        """
        SELECT a.name, a.type::regtype::text
        FROM pg_catalog.pg_proc p, unnest(p.proargnames[2:13], (p.proargtypes::oid[])[1:12])
             WITH ORDINALITY AS a (name, type, place)
        WHERE p.oid = 'hotmesh_dba.prune'::regproc ORDER BY a.place
        """
    ).fetchall()
    declared = [(o.name, o.type.replace("bool", "boolean")) for o in OPTIONS.values()]
    assert rows == declared


def test_the_defaults_shown_are_the_servers(conn: Connection) -> None:
    rows = conn.execute(
        """
        SELECT pg_catalog.pg_get_function_arg_default(p.oid, n)
        FROM pg_catalog.pg_proc p, generate_series(2, 13) n
        WHERE p.oid = 'hotmesh_dba.prune'::regproc ORDER BY n
        """
    ).fetchall()
    for (expression,), (name, option) in zip(rows, OPTIONS.items(), strict=True):
        same = conn.execute(
            f"SELECT ({expression})::{option.type} IS NOT DISTINCT FROM %s::{option.type}",
            [option.default],
        ).fetchone()
        assert same == (True,), name


def test_the_batch_options_are_those_of_the_procedure(conn: Connection) -> None:
    rows = conn.execute(
        """
        SELECT a.name, a.type::regtype::text, pg_get_function_arg_default(p.oid, a.place::int)
        FROM pg_proc p, unnest(p.proargnames, p.proargtypes::oid[])
             WITH ORDINALITY AS a (name, type, place)
        WHERE p.oid = 'hotmesh_dba.prune_batched'::regproc ORDER BY a.place
        """
    ).fetchall()
    types = {"bool": "boolean", "int4": "integer", "int8": "bigint"}
    assert [(name, kind) for name, kind, _ in rows if name not in NOT_OPTIONS] == [
        (o.name, types.get(o.type, o.type)) for o in BATCHED_OPTIONS.values()
    ]
    defaults = {name: expression for name, _, expression in rows}
    for name, option in BATCH_OPTIONS.items():
        same = conn.execute(
            f"SELECT ({defaults[option.name]})::{option.type} IS NOT DISTINCT FROM"
            f" %s::{option.type}",
            [option.default],
        ).fetchone()
        assert same == (True,), name


def test_both_clients_show_the_batch_options() -> None:
    shown = inspect.signature(DBA("").prune_batched).parameters
    assert inspect.signature(AsyncDBA("").prune_batched).parameters == shown
    for name, option in BATCHED_OPTIONS.items():
        assert shown[name].default == option.default
    own = {"workers": 1, "progress": None, "auto_deploy": True}
    assert {name: shown[name].default for name in own} == own
    assert next(iter(shown)) == "app_id"
    assert inspect.signature(DBA("").prune_batched).return_annotation == "RunResult"


@pytest.mark.parametrize("method", ["prune", "preview"])
def test_both_clients_show_every_option_with_its_default(method: str) -> None:
    shown = inspect.signature(getattr(DBA(""), method)).parameters
    assert inspect.signature(getattr(AsyncDBA(""), method)).parameters == shown
    for name, option in OPTIONS.items():
        assert shown[name].default == option.default
        assert shown[name].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("style", ["postgres", "sql_standard", "iso_8601"])
@pytest.mark.parametrize(
    "window",
    [
        timedelta(0),
        timedelta(microseconds=1),
        timedelta(days=400, hours=23, microseconds=999_999),
        timedelta(weeks=5200, seconds=1),
        timedelta(hours=-1),
        timedelta(days=-3, microseconds=7),
    ],
    ids=str,
)
def test_a_timedelta_arrives_exactly(conn: Connection, style: str, window: timedelta) -> None:
    conn.execute(f"SET intervalstyle = {style}")
    _, values = arguments({"expire": window})
    row = conn.execute(
        "SELECT extract(epoch FROM w) * 1000000 FROM (SELECT %s::interval) s (w)", values
    ).fetchone()
    assert row is not None
    assert row[0] == window // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "options",
    [{"expire": 7}, {"expire": True}, {"jobs": 1}, {"signals": "yes"}, {"retention": "7 days"}],
    ids=str,
)
def test_a_wrong_type_or_name_is_a_type_error(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        DBA("").prune("myapp", **options)


def test_a_single_name_is_not_taken_for_its_letters() -> None:
    call: Callable[..., Any] = DBA("").preview
    with pytest.raises(InvalidOption) as caught:
        call("myapp", entities="book")
    assert caught.value.hint == "Write entities=['book']."
