"""Moves the model's rows into an app's tables and back, whatever the app's layout is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, cast

from psycopg import sql

from tests.oracle.session import Row, Session
from tests.support.model import Attribute, Job, Message, MessageTable, Rows, Signal

MESSAGE_TABLES: tuple[MessageTable, ...] = ("engine_streams", "worker_streams", "streams")
TABLES = ("jobs", "jobs_attributes", *MESSAGE_TABLES, "signal_registry")

# Columns that the model knows; the others it only ever compares, as one text.
KNOWN: dict[str, tuple[str, ...]] = {
    "jobs": ("id", "key", "entity", "status", "expired_at", "is_live", "pruned_at"),
    "jobs_attributes": ("job_id", "symbol", "field", "type"),
    **dict.fromkeys(
        MESSAGE_TABLES, ("stream_name", "id", "expired_at", "group_name", "dead_lettered_at")
    ),
    "signal_registry": ("key", "expiry"),
}

# Columns that are given a value; the others have their defaults.
GIVEN: dict[str, tuple[str, ...]] = {
    "jobs": KNOWN["jobs"],
    "jobs_attributes": (*KNOWN["jobs_attributes"], "dimension", "value"),
    **dict.fromkeys(MESSAGE_TABLES, (*KNOWN["streams"], "message")),
    "signal_registry": ("key", "value", "expiry"),
}

Values = Mapping[str, Any]


class Tables:
    """The tables that an app schema has, each with its columns.

    Statements are made once: a case is a few milliseconds, and there are thousands of them.
    """

    def __init__(self, session: Session, schema: str) -> None:
        found = session.execute(
            "SELECT table_name::text, array_agg(column_name::text)"
            " FROM information_schema.columns WHERE table_schema = %s GROUP BY 1",
            [schema],
        )
        columns = {name: set(columns) for name, columns in found if name in TABLES}
        self.names = [name for name in TABLES if name in columns]
        self._known = {
            table: [name for name in KNOWN[table] if name in columns[table]] for table in self.names
        }
        self._given = {
            table: [name for name in GIVEN[table] if name in columns[table]] for table in self.names
        }
        self._inserts = {table: self._insert_statement(schema, table) for table in self.names}
        self._reads = {table: self._read_statement(schema, table) for table in self.names}
        self._deletes = [
            sql.SQL("DELETE FROM {}").format(sql.Identifier(schema, table)).as_string(None).encode()
            for table in self.names
        ]

    def insert(self, session: Session, rows: Rows) -> Rows:
        """Insert rows as they are: no trigger and no foreign key has a say.

        Returns:
            the rows with all their columns, as `read` would.
        """
        session.execute("SET LOCAL session_replication_role = replica")
        inserted = {
            table: session.execute(self._inserts[table], [json.dumps(values, default=str)])
            for table, values in _values(rows).items()
            if values
        }
        session.execute("SET LOCAL session_replication_role = origin")
        return self._rows(inserted)

    def read(self, session: Session) -> Rows:
        """Every row that there is, every column of it."""
        return self._rows({table: session.execute(self._reads[table]) for table in self.names})

    def empty(self, session: Session) -> None:
        """Delete every row. That is far quicker than TRUNCATE where there are but a few."""
        session.execute("SET LOCAL session_replication_role = replica")
        for statement in self._deletes:
            session.execute(statement)
        session.execute("SET LOCAL session_replication_role = origin")

    def _insert_statement(self, schema: str, table: str) -> bytes:
        statement = sql.SQL(
            "INSERT INTO {table} AS t ({columns})"
            " SELECT {columns} FROM json_populate_recordset(NULL::{table}, %s) RETURNING {all}"
        ).format(
            table=sql.Identifier(schema, table),
            columns=sql.SQL(", ").join(map(sql.Identifier, self._given[table])),
            all=self._all_columns(table),
        )
        return statement.as_string(None).encode()

    def _read_statement(self, schema: str, table: str) -> bytes:
        statement = sql.SQL("SELECT {} FROM {} t").format(
            self._all_columns(table), sql.Identifier(schema, table)
        )
        return statement.as_string(None).encode()

    def _all_columns(self, table: str) -> sql.Composed:
        """The known columns, and the others as one text."""
        known = self._known[table]
        return sql.SQL("{}, (to_jsonb(t) - {}::text[])::text").format(
            sql.SQL(", ").join(
                sql.SQL("t.{}{}").format(
                    sql.Identifier(name), sql.SQL("::text" if name == "type" else "")
                )
                for name in known
            ),
            sql.Literal(known),
        )

    def _rows(self, found: Mapping[str, list[Row]]) -> Rows:
        def of(table: str) -> list[Values]:
            names = [*self._known.get(table, ()), "rest"]
            return [dict(zip(names, row, strict=True)) for row in found.get(table, ())]

        return Rows(
            jobs=frozenset(map(_job, of("jobs"))),
            attributes=frozenset(map(_attribute, of("jobs_attributes"))),
            messages=frozenset(
                _message(table, values) for table in MESSAGE_TABLES for values in of(table)
            ),
            signals=frozenset(map(_signal, of("signal_registry"))),
        )


def _values(rows: Rows) -> dict[str, list[Values]]:
    """The rows by table, with a value for every column that may not be NULL."""
    by_table: dict[str, list[Values]] = {
        "jobs": [{name: getattr(job, name) for name in KNOWN["jobs"]} for job in rows.jobs],
        "jobs_attributes": [
            {
                "job_id": attribute.job_id,
                "symbol": attribute.name,
                "dimension": ",0,0",
                "field": attribute.name,
                "value": "v",
                "type": attribute.type,
            }
            for attribute in rows.attributes
        ],
        "signal_registry": [
            {"key": signal.key, "value": "v", "expiry": signal.expiry} for signal in rows.signals
        ],
    }
    for message in rows.messages:
        by_table.setdefault(message.table, []).append(
            {
                "id": message.id,
                "stream_name": message.stream,
                "group_name": message.group,
                "message": "{}",
                "expired_at": message.expired_at,
                "dead_lettered_at": message.dead_lettered_at,
            }
        )
    return by_table


def _job(values: Values) -> Job:
    return Job(
        id=values["id"],
        key=values["key"],
        entity=values["entity"],
        status=values["status"],
        expired_at=_utc(values["expired_at"]),
        is_live=values["is_live"],
        pruned_at=_utc(values.get("pruned_at")),
        rest=values["rest"],
    )


def _attribute(values: Values) -> Attribute:
    name = values["symbol"] if "symbol" in values else values["field"]
    return Attribute(values["job_id"], name, values["type"], values["rest"])


def _message(table: MessageTable, values: Values) -> Message:
    return Message(
        table=table,
        stream=values["stream_name"],
        id=values["id"],
        expired_at=_utc(values["expired_at"]),
        group=values.get("group_name"),
        dead_lettered_at=_utc(values.get("dead_lettered_at")),
        rest=values["rest"],
    )


def _signal(values: Values) -> Signal:
    return Signal(values["key"], _utc(values["expiry"]), values["rest"])


def _utc(moment: Any) -> datetime | None:
    """In UTC: aware datetimes of two zones are never equal beside a clock change."""
    return None if moment is None else cast("datetime", moment).astimezone(timezone.utc)
