"""Filters of rows: an expression of SQL over the data's own columns, and nothing else of SQL."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from edgerec.data.columns import named
from edgerec.data.sources import Connection, literal, quoted
from edgerec.data.staging import DATE, NUMBER, WHOLE_FLOATS
from edgerec.errors import DataError, reason_of
from edgerec.extras import require

_REFUSED = {"SUBQUERY": "a query in the expression", "WINDOW": "a window function", "LAMBDA": "a lambda"}


def columns_of(connection: Connection, where: str, columns: Sequence[str]) -> dict[str, str]:
    """Return the columns that an expression uses: their names in it, and in the data.

    Raises DataError if it is no expression of one row, or names a column that is not there.
    """
    tree = _tree(connection, where)
    kind = next((node["class"] for node in _nodes(tree) if node.get("class") in _REFUSED), None)
    if kind is not None:
        raise DataError(f"--where {where!r} holds {_REFUSED[kind]}; give a condition on the columns of one row")
    functions = {node["function_name"] for node in _nodes(tree) if node.get("class") == "FUNCTION"}
    changing = connection.execute(
        "SELECT function_name FROM duckdb_functions() WHERE list_contains(?, function_name) "
        # Functions of times with a zone depend on the zone alone, which is UTC here; now() has no parameters.
        "AND (stability = 'VOLATILE' OR stability <> 'CONSISTENT' AND len(parameters) = 0)",
        [sorted(functions)],
    ).fetchone()
    if changing is not None:
        raise DataError(f"--where {where!r} holds {changing[0]}(), which differs from call to call; give a constant")
    found: dict[str, str] = {}
    for node in _nodes(tree):
        if node.get("class") != "COLUMN_REF":
            continue
        name = node["column_names"][0]
        place = named(columns, name)
        if place is None:
            raise DataError(
                f"--where {where!r} names the column {name}, which is not there; there are {', '.join(columns)} "
                "(texts are in single quotes)"
            )
        if name.lower() not in map(str.lower, found):  # SQL ignores the case of names
            found[name] = columns[place]
    return found


def _tree(connection: Connection, where: str) -> Any:
    """Return the syntax tree of an expression. Raises DataError if it is none, or continues after the condition."""
    (text,) = connection.execute("SELECT json_serialize_sql(?)", [f"SELECT * FROM t WHERE (\n{where}\n)"]).fetchone()
    (plain,) = connection.execute("SELECT json_serialize_sql('SELECT * FROM t WHERE (\n1\n)')").fetchone()
    parsed, expected = json.loads(text), json.loads(plain)
    message = parsed.get("error_message", "empty, or more than a condition")
    if not parsed["error"]:
        nodes = [one["statements"][0]["node"] for one in (parsed, expected)]
        tree, _ = (node.pop("where_clause", None) for node in nodes)
        # Nothing between parentheses is a tuple, which DuckDB calls a row.
        if len(parsed["statements"]) == 1 and nodes[0] == nodes[1] and tree.get("function_name") != "row":
            return tree
    raise DataError(
        f"--where {where!r} is no condition of SQL ({message}); give one such as \"price > 10 AND country = 'DE'\""
    )


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def typed(connection: Connection, table: str, columns: Sequence[str], ids: Collection[str]) -> dict[str, str]:
    """Return SQL of text columns as what all of their values are: whole numbers, numbers, times, truth values or text.

    Args:
        table: a table whose columns are text.
        columns: names of the columns.
        ids: the ones of ids, which are whole numbers or text.
    """
    kinds = {
        "BIGINT": f"regexp_full_match(value, {literal(WHOLE_FLOATS)}) AND TRY_CAST(value AS BIGINT) IS NOT NULL",
        # A code such as 007 is no number.
        "DOUBLE": f"regexp_full_match(value, {literal(NUMBER)}) AND NOT regexp_full_match(value, '0[0-9].*')",
        "TIMESTAMPTZ": f"regexp_full_match(value, {literal(DATE)}) AND TRY_CAST(value AS TIMESTAMPTZ) IS NOT NULL",
        "BOOLEAN": "lower(value) IN ('true', 'false')",
    }
    tests = ", ".join(f"coalesce(bool_and({test}), false)" for test in kinds.values())
    found = {}
    for column in columns:
        value = f"NULLIF({quoted(column)}, '')"
        answers = connection.execute(f"SELECT {tests} FROM (SELECT {value} AS value FROM {table})").fetchone()
        kind = next((kind for kind, answer in zip(kinds, answers, strict=True) if answer), "VARCHAR")
        kind = kind if kind == "BIGINT" or column not in ids else "VARCHAR"
        found[column] = f"CAST({value} AS {kind})"
    return found


def select(connection: Connection, table: str, where: str, values: dict[str, str]) -> str:
    """Return a new table of the rows of `table` for which an expression is true.

    Args:
        values: SQL of each column of the expression.

    Raises DataError if the expression cannot be computed.
    """
    listed = "".join(f", {value} AS {quoted(name)}" for name, value in values.items())
    chosen = f'SELECT "$row" FROM (SELECT "$row"{listed} FROM {table}) WHERE (\n{where}\n)'
    try:
        connection.execute(f"CREATE TABLE chosen AS {chosen}")
    except require("duckdb", "train").Error as error:
        said = reason_of(error).splitlines()[0]
        raise DataError(f"--where {where!r} cannot be computed: {said}") from error
    connection.execute(f'CREATE TABLE selected AS SELECT * FROM {table} SEMI JOIN chosen USING ("$row")')
    return "selected"
