"""No command writes to its inputs, or over what EdgeRec did not write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from edgerec.cli.app import group
from edgerec.errors import EdgeRecError, OutputError
from edgerec.outputs import HTML_MARK, Output, check_outputs, json_of, page
from tests.cli.conftest import DATA

MINE = b"user,item\n1,2\n"
GRID = ("", ".timings.jsonl")
"""What stands beside a result file; '' for itself."""


@dataclass(frozen=True)
class Writes:
    """A command that writes.

    Attributes:
        words: to call it with; {NAME} is an input or an output.
        inputs: by name, 'file' or 'folder'; outputs, too.
        derived: endings of the files that an output makes, in place of its own.
        own: of the outputs, the suffix that one must have.
        ours: outputs of which another may be replaced, or that the command resumes.
    """

    words: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    derived: tuple[str, ...] = ()
    suffix: str = ""
    shared: tuple[str, ...] = ()


WRITES = {
    "train": Writes(
        "train {data} --item-attributes {item_attributes} --budget 50% --out {out}",
        {"data": "file", "item_attributes": "file"},
        {"out": "folder"},
    ),
    "fit": Writes(
        "fit {data} --item-attributes {item_attributes} --trials 1 --out {out}",
        {"data": "file", "item_attributes": "file"},
        {"out": "folder"},
    ),
    "fit NEXT": Writes(
        "fit {data} --item-attributes {item_attributes} --like {like} --out {out} --patch {patch}",
        {"data": "file", "item_attributes": "file", "like": "folder"},
        {"out": "folder", "patch": "file"},
    ),
    "tune": Writes(
        "tune {data} --item-attributes {item_attributes} --budget 50% --trials 1 --out {out}",
        {"data": "file", "item_attributes": "file"},
        {"out": "file"},
    ),
    "grid": Writes(
        "grid {plan} --out {out} --bundles {bundles}",
        {"plan": "file"},
        {"out": "file", "bundles": "folder"},
        (".jsonl", ".timings.jsonl"),
        ".jsonl",
        ("bundles",),
    ),
    "frontier": Writes(
        "frontier {data} --method dense --out {out}",
        {"data": "file"},
        {"out": "file"},
        (".html", ".md", ".csv", ".json", ".jsonl", ".timings.jsonl"),
        ".html",
    ),
    "stream": Writes(
        "stream {data} --item-attributes {item_attributes} --budget 50% --out {out}",
        {"data": "file", "item_attributes": "file"},
        {"out": "folder"},
    ),
    "reproduce": Writes(
        "reproduce bet --data {data} --out {out}",
        {"data": "file"},
        {"out": "file"},
        (".json", ".jsonl", ".timings.jsonl"),
        ".json",
    ),
    "export": Writes(
        "export --items {items} --users {users_file} --ids {ids} --user-ids {user_ids} --like {like} "
        "--item-counts {item_counts} --item-attributes {item_attributes} --titles "
        "--calibration {calibration} --sign {sign} --out {out} --id-map {id_map}",
        {"items": "file", "users_file": "file", "ids": "file", "user_ids": "file", "like": "folder"}
        | {"item_counts": "file", "item_attributes": "file", "calibration": "file", "sign": "file"},
        {"out": "folder", "id_map": "file"},
    ),
    "export RUN": Writes(
        "export {run} --data {data} --titles --item-attributes {item_attributes} --out {out} --id-map {id_map}",
        {"run": "folder", "data": "file", "item_attributes": "file"},
        {"out": "folder", "id_map": "file"},
    ),
    "diff": Writes("diff {old} {new} --out {out}", {"old": "folder", "new": "folder"}, {"out": "file"}),
    "fold-in": Writes(
        "fold-in {bundle} {interactions} --item-attributes {item_attributes} --run {run_folder} --out {out} "
        "--save {save} --sign {sign}",
        {"bundle": "folder", "interactions": "file", "item_attributes": "file", "run_folder": "folder", "sign": "file"},
        {"out": "file", "save": "folder"},
    ),
    "pack": Writes("pack {bundle} --out {out}", {"bundle": "folder"}, {"out": "file"}),
    "bench": Writes("bench {bundles} --out {out}", {"bundles": "folder"}, {"out": "file"}),
    "report": Writes("report {subjects} --out {out}", {"subjects": "folder"}, {"out": "file"}),
    "report FILE": Writes("report {subjects} --format csv --out {out}", {"subjects": "file"}, {"out": "file"}),
    "demo": Writes("demo {bundles} --out {out}", {"bundles": "folder"}, {"out": "folder"}),
}
"""Every command that writes, by its name and, where it takes several kinds of inputs, which."""

READS_ALONE = {
    "data show": {"data", "item_attributes"},
    "evaluate": {"subjects", "data", "id_map", "item_attributes"},
    "inspect": {"subject", "trusted"},
    "recommend": {"bundle", "data", "item_attributes"},
    "similar": {"bundle"},
    "compare": {"base", "new"},
}
OTHERWISE = {
    "apply": {"bundle", "patch", "trusted"},  # changes BUNDLE itself, which is what it is for
    "unpack": {"file", "out"},  # into a folder that is new or empty: test_stored.py
    "data build": {"out", "item_attributes"},  # into a folder of its own: test_build.py
    # reads these, and writes the folder of --state: tests/serve
    "serve": {"cert", "key", "mqtt_password_file", "name", "page", "state", "token_file", "trusted"},
    "keys new": {"key"},  # replaces nothing: test_signatures.py
}
"""Commands that write by a rule of their own, which the tests named hold."""
PLACES = {"data", "interactions", "ids", "name", "out", "save", "output", "to", "work", "folder", "file"}
"""Parameters that may name a file although their type is text."""
SUITE = '[a]\ncommand = "python -c pass"\nmakes = "a.json"\n'


def commands(command: click.Command = group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, f"{path} {name}".strip())


def _may_be_place(one: click.Parameter) -> bool:
    return one.name in PLACES and not isinstance(one.type, click.Choice)


def test_every_command_that_takes_a_path_is_tested_here() -> None:
    """A new option for a file, or a new command with one, has to be added to one of the tables."""
    known: dict[str, set[str]] = {name: set(found) for name, found in (READS_ALONE | OTHERWISE).items()}
    for name, writes in WRITES.items():
        command = name.removesuffix(" RUN").removesuffix(" FILE").removesuffix(" NEXT")
        known.setdefault(command, set()).update(writes.inputs, writes.outputs)
    found = {
        name: {str(one.name) for one in command.params if isinstance(one.type, click.Path) or _may_be_place(one)}
        for name, command in commands()
    }
    assert {name: places for name, places in found.items() if places} == known


def called(words: str, places: dict[str, Path]) -> None:
    group.main([places[w[1:-1]].as_posix() if w[0] == "{" else w for w in words.split()], standalone_mode=False)


def made(kind: str, place: Path) -> Path:
    """An input, or something of somebody else's."""
    if kind == "folder":
        place.mkdir(parents=True)
        (place / "mine").write_bytes(MINE)
    else:
        place.write_bytes(SUITE.encode() if place.suffix == ".toml" else MINE)
    return place


def held(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def places_of(writes: Writes, folder: Path) -> dict[str, Path]:
    """Inputs that are there, outputs that are not."""
    places = {name: folder / f"in-{name}{'.toml' * (name == 'name')}" for name in writes.inputs}
    for name, place in places.items():
        made(writes.inputs[name], place)
    own = "" if writes.suffix == ".toml" else writes.suffix
    return places | {name: folder / f"out-{name}{own * (name == 'out')}" for name in writes.outputs}


OVER = [
    pytest.param(writes, output, ending, one, id=f"{command} --{output} {ending} over {one}")
    for command, writes in WRITES.items()
    for output in writes.outputs
    for ending in (writes.derived if output == "out" and writes.derived else [""])
    for one in writes.inputs
]


@pytest.mark.parametrize(("writes", "output", "ending", "one"), OVER)
def test_no_output_is_an_input(writes: Writes, output: str, ending: str, one: str, tmp_path: Path) -> None:
    places = places_of(writes, tmp_path)
    if ending:
        places[output] = tmp_path / f"same{writes.suffix}"
        places[one] = places[one].rename(tmp_path / f"same{ending}")
    elif output in writes.shared and writes.inputs[one] == "file":
        # The files that are made in the folder count.
        made_there = tmp_path / "a.json"
        if command_makes_no_file(writes):
            return
        os.link(places[one], made_there)
        places[output] = tmp_path
    else:
        places[output] = places[one]
    before = held(tmp_path)
    # click itself refuses a folder for a file.
    refused = (OutputError, click.BadParameter)
    with pytest.raises(refused, match=r"is an input.*choose another|lies inside the input|is a directory"):
        called(writes.words, places)
    assert held(tmp_path) == before


def command_makes_no_file(writes: Writes) -> bool:
    return "suite" not in writes.words


READ_DATA = ("fit", "train", "tune", "frontier", "stream", "reproduce")
INSIDE = [
    pytest.param(writes, output, one, id=f"{command} --{output} in {one}")
    for command, writes in WRITES.items()
    for output in writes.outputs
    for one in (*writes.inputs, *(["data"] if command in READ_DATA else []))
    if writes.inputs[one] == "folder" or one == "data"
]


@pytest.mark.parametrize(("writes", "output", "one"), INSIDE)
def test_no_output_lies_inside_an_input(writes: Writes, output: str, one: str, tmp_path: Path) -> None:
    places = places_of(writes, tmp_path)
    if places[one].is_file():
        places[one].unlink()
        made("folder", places[one])
    link = tmp_path / "link"
    link.symlink_to(places[one])
    places[output] = link / "new" / places[output].name
    before = held(tmp_path)
    with pytest.raises(OutputError, match="lies inside the input"):
        called(writes.words, places)
    assert held(tmp_path) == before


FOREIGN = [
    pytest.param(command, output, ending, id=f"{command} --{output} {ending}")
    for command, writes in WRITES.items()
    for output in writes.outputs
    if output not in writes.shared and (command, output) != ("export", "out")  # of a RUN as well
    for ending in (writes.derived if output == "out" and writes.derived else [""])
]


@pytest.mark.parametrize(("command", "output", "ending"), FOREIGN)
def test_what_others_wrote_is_not_replaced_unasked(
    command: str, output: str, ending: str, tmp_path: Path, place: Path
) -> None:
    writes = WRITES[command]
    places = places_of(writes, tmp_path)
    words = writes.words
    if command in ("train", "stream", "export RUN"):  # which look at the folder after they have read the data
        words = words.replace("--item-attributes {item_attributes}", "")
    if command in ("train", "stream"):
        words = words.replace("{data}", f"{DATA} --segments 2 --holdout user" if command == "stream" else DATA)
    if command == "export RUN":
        shutil.copytree(place / "ials", places["run"], dirs_exist_ok=True)
        words = words.replace(" --data {data}", "")
    if command == "grid":
        places["plan"].write_text(f'data = "{DATA}"\nbackbone = "svd"\nmethod = "dense"\n')
    target = tmp_path / f"{places[output].stem}{ending}" if ending else places[output]
    made(writes.outputs[output], target)
    before = held(tmp_path)
    with pytest.raises(EdgeRecError, match="choose another"):
        called(words, places)
    assert held(tmp_path) == before


def test_with_overwrite_it_is(tmp_path: Path, place: Path) -> None:
    table = tmp_path / "map.csv"
    table.write_bytes(MINE)
    places = {"run": place / "svd", "out": tmp_path / "b", "map": table}
    words = "export {run} --out {out} --no-verify --id-map {map}"
    with pytest.raises(OutputError, match="give --overwrite"):
        called(words, places)
    assert table.read_bytes() == MINE
    called(f"{words} --overwrite", places)
    assert table.read_bytes().startswith(b"side,row,id\r\n")


def test_a_manifest_that_is_not_ours_stays(tmp_path: Path, place: Path) -> None:
    """One that is no JSON may be anybody's: an app's, of a browser's extension, say."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(b"// of an app\n")
    words, places = "export {run} --out {out} --no-verify", {"run": place / "svd", "out": folder}
    with pytest.raises(EdgeRecError, match="give --overwrite"):
        called(words, places)
    assert held(folder) == {"manifest.json": b"// of an app\n"}
    called(f"{words} --overwrite", places)
    assert len(held(folder)) > 3


def test_commands_that_measure_keep_the_rule(tmp_path: Path) -> None:
    """Every experiment with an --out, by the harness that they share."""
    from bench.experiments.trained import main

    data = made("file", tmp_path / "ratings.csv")
    for out, said in ((data, "is an input"), (made("file", tmp_path / "notes.json"), "was not written by this")):
        with pytest.raises(click.ClickException, match=said):
            main.main(["--data", str(data), "--out", str(out)], standalone_mode=False)
        assert out.read_bytes() == MINE


def test_links_and_other_spellings_name_the_same_file(tmp_path: Path) -> None:
    data = made("file", tmp_path / "ratings.csv")
    (tmp_path / "soft.csv").symlink_to(data)
    os.link(data, tmp_path / "hard.csv")  # as on a file system that ignores case, two names of one inode
    (tmp_path / "sub").mkdir()
    for name in ("soft.csv", "hard.csv", "sub/../ratings.csv"):
        with pytest.raises(OutputError, match="is an input"):
            check_outputs([Output(tmp_path / name)], [data], overwrite=True)
        with pytest.raises(OutputError, match="is an input"):
            check_outputs([Output(data)], [tmp_path / name], overwrite=True)
    check_outputs([Output(tmp_path / "other.csv")], [data])


def test_two_outputs_need_two_places(tmp_path: Path) -> None:
    one, folder = Output(tmp_path / "a"), Output(tmp_path / "a", "--save", folder=True)
    with pytest.raises(OutputError, match="--out and --save both write"):
        check_outputs([one, folder])
    with pytest.raises(OutputError, match="holds its own files alone"):
        check_outputs([Output(tmp_path / "a" / "b"), folder])


def test_what_is_ours_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(b"<!doctype html>\n<head>" + HTML_MARK)
    (tmp_path / "result.json").write_text('[{"format": "edgerec.result"}, {"format": "edgerec.result"}]')
    (tmp_path / "empty").touch()
    ours = [
        Output(tmp_path / "page.html", ours=page),
        Output(tmp_path / "result.json", ours=json_of("edgerec.result")),
        Output(tmp_path / "empty"),
        Output(tmp_path / "new"),
    ]
    check_outputs(ours)
    if os.path.exists("/dev/null"):  # noqa: PTH110
        check_outputs([Output(Path("/dev/null"))])
    with pytest.raises(OutputError, match="was not written by this command"):
        check_outputs([Output(tmp_path / "result.json", ours=json_of("edgerec.study"))])
