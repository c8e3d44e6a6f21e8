"""One app, or all of them, each on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import typer

from hotmesh_dba import DBA, HotMeshDBAError
from hotmesh_dba.cli.ending import (
    DONE,
    code_of,
    code_of_signal,
    described,
    reporting,
    show_error,
    worst,
)
from hotmesh_dba.cli.output import Record, about, note, show_json

Outcome = tuple[object, int]
"""What a command writes as JSON, and its exit code."""


def chosen(app_id: str | None, all_apps: bool) -> None:
    """Refuse neither and both of an app and --all-apps."""
    if (app_id is None) != all_apps:
        raise typer.BadParameter("name an app, or give --all-apps, and not both", param_hint="APP")


def one_or_all(app_id: str | None, all_apps: bool) -> None:
    """Refuse both; neither means all."""
    if app_id is not None and all_apps:
        raise typer.BadParameter("name an app, or give --all-apps, not both", param_hint="APP")


def with_name(
    app_id: str | None, name: str | None, all_apps: bool, what: str = "NAME"
) -> tuple[str | None, str]:
    """Return the app and the name after it; with --all-apps the name is the only argument."""
    if all_apps and name is None:
        app_id, name = None, app_id
    if name is None:
        raise typer.BadParameter("it is missing", param_hint=what)
    chosen(app_id, all_apps)
    return app_id, name


def each(
    dba: Callable[[], DBA],
    app_id: str | None,
    as_json: bool,
    work: Callable[[DBA, str], Outcome],
) -> None:
    """Do something for an app, or for every app where none is named; write JSON; exit.

    :param dba: makes the client; it may fail.
    :param work: shows what it did, unless ``as_json``; returns it, and the exit code.
    """
    with reporting(as_json):
        client = dba()
        if app_id is not None:
            data, code = work(client, app_id)
            if as_json:
                show_json(data)
        else:
            code = _every(client, as_json, work)
    if code:
        raise typer.Exit(code)


def _every(dba: DBA, as_json: bool, work: Callable[[DBA, str], Outcome]) -> int:
    documents: list[Record] = []
    try:
        for app in dba.apps():
            documents.append({"app": app.schema, "result": None, "error": None, "exit_code": DONE})
            with about(app.schema):
                _one(dba, documents[-1], work)
    finally:  # also where it was interrupted
        if as_json:
            show_json(documents)
    if not documents:
        note("no HotMesh applications in this database")
    return worst(document["exit_code"] for document in documents)


def _one(dba: DBA, document: Record, work: Callable[[DBA, str], Outcome]) -> None:
    try:
        document["result"], document["exit_code"] = work(dba, document["app"])
    except HotMeshDBAError as error:
        show_error(error)
        document["result"] = partial(error)
        document["error"] = {"message": error.message, **described(error)}
        document["exit_code"] = code_of(error)
    except KeyboardInterrupt as interrupt:
        document["result"] = partial(interrupt)
        nothing = {"sqlstate": None, "detail": None, "hint": None}
        document["error"] = {"message": "interrupted", "error": "Interrupted", **nothing}
        document["exit_code"] = code_of_signal(interrupt)
        raise


def partial(error: BaseException) -> Record | None:
    """Return what a run had done before it failed or was interrupted."""
    result = getattr(error, "result", None)
    return None if result is None else asdict(result)
