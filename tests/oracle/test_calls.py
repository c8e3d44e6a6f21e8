"""The documented calls, typed as they are documented, each against the model."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from itertools import product

import psycopg
import pytest

from tests.oracle.conftest import NewSubject
from tests.oracle.paths import Path, Result
from tests.oracle.session import Row, Session, SyncSession
from tests.support.model import Counts, Options, Window
from tests.support.random_app import (
    ANCHORS,
    ENGINE_AND_WORKER,
    TYPES,
    Case,
    JobSpec,
    MessageSpec,
    Moment,
)

BIGINT = 20

DAY = 86_400_000_000

CALLS = {
    "strip only": (
        "'0 seconds', false, false, true",
        Options(Window(), prune_jobs=False, prune_streams=False, strip_attributes=True),
    ),
    "books only": (
        "'30 days', true, false, false, ARRAY['book']",
        Options(Window(days=30), prune_streams=False, entity_list=("book",)),
    ),
    "everything": ("'7 days', true, true, true", Options(strip_attributes=True)),
    "a window per stream table": (
        "'7 days', true, false, false, NULL, false, false, true, true,"
        " INTERVAL '24 hours', INTERVAL '90 days'",
        Options(
            prune_streams=False,
            prune_engine_streams=True,
            prune_worker_streams=True,
            engine_streams_retention=Window(microseconds=DAY),
            worker_streams_retention=Window(days=90),
        ),
    ),
    "nothing said": ("", Options()),
    "three arguments": ("'1 day', false, true", Options(Window(days=1), prune_jobs=False)),
    "seven arguments": (
        "'1 day', true, true, true, ARRAY['author'], true, true",
        Options(Window(days=1), True, True, True, ("author",), True, True),
    ),
    "eleven arguments": (
        "'1 day', true, true, true, ARRAY['book'], true, true, NULL, false, '2 days', NULL",
        Options(
            *(Window(days=1), True, True, True, ("book",), True, True),
            *(None, False, Window(days=2), None),
        ),
    ),
    "twelve arguments": (
        "'1 day', true, false, false, '{book}', false, false, true, false, NULL, NULL, false",
        Options(
            *(Window(days=1), True, False, False, ("book",), False, False),
            *(True, False, None, None, False),
        ),
    ),
    "named": (
        "strip_attributes => true, retention => '30 days', entity_list => ARRAY['book', 'author'],"
        " keep_hmark => true, prune_signals => false",
        Options(
            Window(days=30),
            strip_attributes=True,
            entity_list=("book", "author"),
            keep_hmark=True,
            prune_signals=False,
        ),
    ),
    "by position, then named": (
        "'30 days', prune_transient => true, worker_streams_retention => '1 day'",
        Options(Window(days=30), prune_transient=True, worker_streams_retention=Window(days=1)),
    ),
}

# The SDK's: twelve parameters, each sent as text and cast by the server.
SDK_CALL = (
    'SELECT * FROM "My App".prune($1::interval, $2::boolean, $3::boolean, $4::boolean, $5::text[],'
    " $6::boolean, $7::boolean, $8::boolean, $9::boolean, $10::interval, $11::interval,"
    " $12::boolean)"
)
SDK_CALLS: dict[str, tuple[list[str | None], Options]] = {
    "what is not given is NULL": (
        ["7 days", "true", "true", "false", None, "false", "false", *[None] * 4, "true"],
        Options(),
    ),
    "all given": (
        [
            *("1 day", "true", "false", "true", "{book}", "true", "true"),
            *("true", "false", "2 days", "3 days", "false"),
        ],
        Options(
            *(Window(days=1), True, False, True, ("book",), True, True),
            *(True, False, Window(days=2), Window(days=3), False),
        ),
    ),
}


def every_row(options: Options) -> Case:
    """A row of each kind on either side of each cutoff of `options`."""
    shifts = [timedelta(seconds=seconds) for seconds in (-1, 1)]
    moments = [Moment(anchor, shift) for anchor in ANCHORS for shift in shifts]
    return Case(
        options,
        jobs=tuple(
            JobSpec(entity, status, expired, is_live, None, TYPES, shares_key=False)
            for entity, status, expired, is_live in product(
                (None, "book", "author"), (0, 1, -1), (None, *moments[:4]), (True, False)
            )
        ),
        messages=tuple(
            MessageSpec(place, "s", expired, dead)
            for place, expired, dead in product(ENGINE_AND_WORKER, (None, *moments), (True, False))
        ),
        signals=(None, *moments),
    )


def returned(cursor: psycopg.Cursor[Row]) -> Result:
    """The one row, whose columns are the eight counts and nothing else, each a bigint."""
    assert cursor.description is not None
    assert [column.name for column in cursor.description] == [name.name for name in fields(Counts)]
    assert {column.type_code for column in cursor.description} == {BIGINT}
    [row] = cursor.fetchall()
    return Result(Counts(*row))


@pytest.mark.parametrize("name", CALLS)
def test_a_documented_call_does_what_the_model_says(name: str, new_subject: NewSubject) -> None:
    arguments, options = CALLS[name]

    def call(session: Session, _: Options) -> Result:
        assert isinstance(session, SyncSession)
        statement = f'SELECT * FROM "My App".prune({arguments})'
        return returned(session.conn.execute(statement.encode()))

    new_subject(Path(call, preview=None)).check(every_row(options))


@pytest.mark.parametrize("prepared", [False, True], ids=["parametrised", "prepared"])
@pytest.mark.parametrize("name", SDK_CALLS)
def test_the_parametrised_call_of_the_sdk(
    name: str, prepared: bool, new_subject: NewSubject
) -> None:
    parameters, options = SDK_CALLS[name]

    def call(session: Session, _: Options) -> Result:
        assert isinstance(session, SyncSession)
        cursor = psycopg.RawCursor(session.conn)
        return returned(cursor.execute(SDK_CALL, parameters, prepare=prepared))

    new_subject(Path(call, preview=None)).check(every_row(options))


def test_the_wrapper_is_declared_as_the_contract_says(new_subject: NewSubject) -> None:
    session = new_subject(Path()).session
    [(arguments, result)] = session.execute(
        "SELECT pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)"
        " FROM pg_proc p WHERE p.pronamespace = '\"My App\"'::regnamespace AND p.proname = 'prune'"
    )
    assert arguments == (
        "retention interval DEFAULT '7 days'::interval, prune_jobs boolean DEFAULT true,"
        " prune_streams boolean DEFAULT true, strip_attributes boolean DEFAULT false,"
        " entity_list text[] DEFAULT NULL::text[], prune_transient boolean DEFAULT false,"
        " keep_hmark boolean DEFAULT false, prune_engine_streams boolean DEFAULT NULL::boolean,"
        " prune_worker_streams boolean DEFAULT NULL::boolean,"
        " engine_streams_retention interval DEFAULT NULL::interval,"
        " worker_streams_retention interval DEFAULT NULL::interval,"
        " prune_signals boolean DEFAULT true"
    )
    columns = ", ".join(f"{column.name} bigint" for column in fields(Counts))
    assert result == f"TABLE({columns})"
