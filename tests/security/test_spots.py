"""tools/spots.py: what pgspot says of our scripts, and that it would say more of worse ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.installation import CHECKOUT
from tools import spots

pytestmark = pytest.mark.once


def codes(text: str) -> set[str]:
    return {code for code, _ in spots.spots(text)}


def test_all_that_is_found_is_allowed_and_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert spots.main() == 0, capsys.readouterr().err


def test_each_way_to_an_installation_is_looked_at() -> None:
    names = {name for name, _ in spots.installations()}
    scripts = {path.name for path in Path(CHECKOUT, "extension").glob("*.sql")}
    assert names > scripts
    assert [name for name in names - scripts if name.endswith(".plain.sql")]


@pytest.mark.parametrize(
    ("routine", "code"),
    [
        ("CREATE FUNCTION hotmesh_dba.f() RETURNS bool LANGUAGE sql AS 'SELECT 1 = 1'", "PS001"),
        ("CREATE FUNCTION hotmesh_dba.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "PS005"),
        ("CREATE FUNCTION hotmesh_dba.f(r hotmesh_dba._run) RETURNS void LANGUAGE plpgsql"
         " AS $$ BEGIN r.ended := 1 > 2; END $$", "PS001"),
        ("CREATE PROCEDURE hotmesh_dba.f(INOUT run hotmesh_dba._run) LANGUAGE plpgsql"
         " AS $$ \n DECLARE\n d hotmesh_dba._due;\nBEGIN d.failed := now(); END $$", "PS016"),
        ("CREATE FUNCTION hotmesh_dba.f() RETURNS SETOF int LANGUAGE plpgsql"
         " AS $$ BEGIN RETURN NEXT now(); END $$", "PS016"),
        ("CREATE FUNCTION hotmesh_dba.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
         "PS003"),
        ("CREATE TABLE IF NOT EXISTS public.t (i int)", "PS012"),
        ("CREATE OR REPLACE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "PS002"),
    ],
)  # fmt: skip
def test_worse_is_found(routine: str, code: str) -> None:
    made = "CREATE SCHEMA hotmesh_dba;\n"
    assert code in codes(f"{made}{spots.EXTENSION_PATH}{routine};")


def test_a_plain_script_without_a_path_is_found() -> None:
    (plain,) = [text for name, text in spots.installations() if name.endswith(".plain.sql")]
    without = plain.replace("SET LOCAL search_path = pg_catalog, pg_temp;\n", "", 1)
    assert without != plain
    assert "PS001" in codes(without)


def test_a_line_without_a_reason_or_a_need_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    allowed = tmp_path / "spots.txt"
    monkeypatch.setattr(spots, "ALLOWED", allowed)
    monkeypatch.setattr(spots, "installations", lambda: iter([]))
    allowed.write_text("PS005 | hotmesh_dba.nothing | because\n")
    assert spots.main() == 1
    assert "nothing needs PS005 | hotmesh_dba.nothing" in capsys.readouterr().err
    allowed.write_text("PS005 | hotmesh_dba.nothing | \n")
    with pytest.raises(SystemExit, match="no reason"):
        spots.main()
