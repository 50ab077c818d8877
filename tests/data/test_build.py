"""Built data: the known answer of a small build, kills at every stage, and the same content as the ordinary reader."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgerec.data import Interactions, SplitSpec, load_data, split
from edgerec.data.build import build_data
from edgerec.data.ids import rows_of
from edgerec.data.readers import Reading
from edgerec.data.stages import BuildOptions
from edgerec.errors import DataError, OutputError
from edgerec.measure import measure_vectors
from tests.conftest import CommandLine

LINES = [
    "customer_id,sku,ts,score,title",
    "b,007,2024-01-05,1,Seven",
    "a,x,2024-01-04,2,Ex",
    "a,007,2024-01-03,3,Seven again",
    "c,007,2024-01-01,4,",
    "c,y,2024-01-01,5,Why",
    "a,x,2024-01-02,6,older than the other",
    "c,x,2024-01-01,7,",
    "b,007,2024-01-05,8,",
    "d,z,2024-01-01,9,rare",
]
SPLITS = ["random:80/20", "leave-last-out", "time:80/20"]


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("orders") / "orders.csv"
    path.write_text("\n".join(LINES) + "\n")
    return path


def options(**changes: object) -> BuildOptions:
    return replace(BuildOptions(Reading()), **changes)  # type: ignore[arg-type]


def dense(whole: Interactions) -> dict[tuple[str, str], tuple[float, int]]:
    """Return rating and time by the raw ids of a pair."""
    users, items = (whole.user_ids[whole.user_rows()], whole.item_ids[whole.indices])
    assert whole.ratings is not None
    assert whole.timestamps is not None
    values = zip(whole.ratings.tolist(), whole.timestamps.tolist(), strict=True)
    return dict(zip(zip(users.tolist(), items.tolist(), strict=True), values, strict=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ids_are_by_popularity_and_a_users_items_by_time(orders: Path, tmp_path: Path) -> None:
    built = build_data([str(orders)], tmp_path / "built", options())
    assert built.user_ids.tolist() == ["c", "a", "b", "d"]  # 3, 2, 1 and 1 items
    assert built.item_ids.tolist() == ["007", "x", "y", "z"]
    assert built.indptr.tolist() == [0, 3, 5, 6, 7]
    assert built.indptr.dtype == np.int64
    # c has three at the same time, in the order of rows; a has 007 before x.
    assert built.indices.tolist() == [0, 1, 2, 0, 1, 0, 3]
    assert built.ratings is not None
    assert built.ratings.tolist() == [4, 7, 5, 3, 2, 8, 9]  # of a repeated pair the latest, the last at equal times
    assert built.titles is not None
    assert built.titles.tolist() == ["Seven again", "older than the other", "Why", "rare"]
    assert built.name == "orders"


def test_arrays_are_mapped(orders: Path, tmp_path: Path) -> None:
    built = build_data([str(orders)], tmp_path / "built", options())
    assert isinstance(built.indices, np.memmap)
    assert not built.indices.flags.writeable


def test_pairs_are_those_of_the_ordinary_reader(orders: Path, tmp_path: Path) -> None:
    built = build_data([str(orders)], tmp_path / "built", options())
    assert dense(built) == dense(load_data(orders))


def test_filters_and_k_core_are_those_of_the_ordinary_reader(orders: Path, tmp_path: Path) -> None:
    reading = Reading(where="score < 8", columns={"time": "ts"})
    built = build_data([str(orders)], tmp_path / "built", options(reading=reading, min_user=2, min_item=2))
    assert dense(built) == dense(load_data(orders, where="score < 8").filter(min_user=2, min_item=2))
    assert built.user_ids.tolist() == ["a", "c"]
    with pytest.raises(DataError, match="0 interactions after filtering"):
        build_data([str(orders)], tmp_path / "none", options(min_user=9))


def test_times_before_1970_are_ordered(tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("user,item,date\na,x,1960-01-02\na,y,1961-01-01\na,x,1965-01-01\n")
    built = build_data([str(tmp_path / "u.csv")], tmp_path / "d", options())
    assert built.item_ids[built.indices].tolist() == ["y", "x"]


def test_whole_ids_are_numbers_and_attributes_replace_titles(tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("user,item,title\n1,10,a\n1,9,b\n2,9,c\n")
    (tmp_path / "items.csv").write_text("item,title,category\n9,nine,odd\n")
    built = build_data([str(tmp_path / "u.csv")], tmp_path / "d", options(attributes=tmp_path / "items.csv"))
    assert built.item_ids.dtype == np.int64
    assert built.item_ids.tolist() == [9, 10]
    assert built.titles is not None
    assert built.titles.tolist() == ["nine", ""]
    assert built.categories is not None
    assert built.categories.tolist() == ["odd", ""]
    assert built.timestamps is None
    (tmp_path / "items.csv").write_text("item,title\nx9,nine\n")
    with pytest.raises(DataError, match=r"titles or categories of none .* such as 'x9', and those of the data .*'10'"):
        build_data([str(tmp_path / "u.csv")], tmp_path / "e", options(attributes=tmp_path / "items.csv"))


def test_a_published_split_is_stored(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.txt").write_text("0 1 2\n1 2\n")
    (tmp_path / "set" / "test.txt").write_text("0 3\n1 1\n")
    built = build_data([str(tmp_path / "set")], tmp_path / "d", options(split=SplitSpec.parse("published")))
    parts = split(built, "published")
    assert [len(part) for part in (parts.train_all, parts.test)] == [3, 2]
    assert built.name == "set"


@pytest.mark.parametrize("spec", SPLITS)
def test_a_stored_split_is_the_one_of_the_data(
    spec: str, log: Path, plain: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgerec.data.interactions.SHARD", 40)  # 30 users have 5 to 9 items
    chosen = SplitSpec.parse(spec, seed=4)
    stored = build_data([str(log)], tmp_path / "with", options(split=chosen))
    assert stored.stored_parts(chosen.to_dict()) is not None
    assert stored.stored_parts(SplitSpec.parse(spec, seed=5).to_dict()) is None
    assert json.loads((tmp_path / "with" / "dataset.json").read_bytes())["shards"][1] < 30
    for name in ("train", "validation", "test", "train_all"):
        one, other = (getattr(split(whole, chosen), name) for whole in (stored, plain))
        assert one.fingerprint() == other.fingerprint()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    lines = [f"u{u},i{(u * i) % 23},{1_700_000_000 + 7919 * u * i % 1000}" for u in range(30) for i in range(1, 12)]
    path.write_text("\n".join(["user,item,time", *lines]))
    return path


@pytest.fixture(scope="module")
def plain(log: Path) -> Interactions:
    """The data of `log` without a stored split."""
    return build_data([str(log)], log.parent / "plain", options())


class Killed(BaseException):
    pass


@pytest.mark.parametrize("stage", ["read", "pairs", "core", "rank", "sort", "interactions", "split"])
def test_a_killed_build_continues_to_the_same_bytes(
    stage: str, orders: Path, tmp_path: Path, whole_build: dict[str, bytes]
) -> None:
    with pytest.raises(Killed):
        build_data([str(orders)], tmp_path / "d", BUILT, stopping(stage, tmp_path / "d" / "build"))
    with pytest.raises(DataError, match="unfinished"):
        load_data(tmp_path / "d")
    names: list[str] = []
    build_data([str(orders)], tmp_path / "d", BUILT, lambda name, number, count: names.append(name))
    assert names[0] == stage
    assert contents(tmp_path / "d") == whole_build


BUILT = options(min_user=2, split=SplitSpec.parse("random:80/20"))


@pytest.fixture(scope="module")
def whole_build(orders: Path) -> dict[str, bytes]:
    build_data([str(orders)], orders.parent / "whole", BUILT)
    return contents(orders.parent / "whole")


def stopping(stage: str, work: Path | None) -> Callable[[str, int, int], None]:
    """Return a progress that ends the process's work at a stage, with what a kill may leave there."""

    def progress(name: str, number: int, count: int) -> None:
        if name == stage:
            if work is not None:
                (work / f"{stage}.part").mkdir()
                (work / f"{stage}.part" / "torn.parquet").write_bytes(b"PAR1")
                (work / "edgerec-read-torn").mkdir()
                work.joinpath("edgerec-read-torn", "tables.duckdb").write_bytes(b"torn")
            raise Killed

    return progress


def test_a_kill_while_results_are_installed_is_repaired(
    orders: Path, tmp_path: Path, whole_build: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("edgerec.data.build.sync_folder", stop_at(tmp_path / "d"))
        with pytest.raises(Killed):
            build_data([str(orders)], tmp_path / "d", BUILT)
    build_data([str(orders)], tmp_path / "d", BUILT)
    assert contents(tmp_path / "d") == whole_build


def stop_at(folder: Path) -> Callable[[Path], None]:
    def sync(path: Path) -> None:
        if path == folder:
            raise Killed

    return sync


def test_other_folders_and_other_builds_are_never_overwritten(orders: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"a")
    with pytest.raises(OutputError, match=r"holds a\.jpg"):
        build_data([str(orders)], photos, options())
    assert contents(photos) == {"a.jpg": b"a"}
    build_data([str(orders)], tmp_path / "d", options())
    before = contents(tmp_path / "d")
    with pytest.raises(OutputError, match="build of other sources or options"):
        build_data([str(orders)], tmp_path / "d", options(min_user=2))
    build_data([str(orders)], tmp_path / "d", options())
    assert contents(tmp_path / "d") == before
    with pytest.raises(DataError, match=r"d was built by 'edgerec data build' already"):
        build_data([str(tmp_path / "d")], tmp_path / "again", options())
    with pytest.raises(Killed):
        build_data([str(orders)], tmp_path / "e", options(), stopping("sort", None))
    with pytest.raises(OutputError, match="unfinished build of other"):
        build_data([str(orders)], tmp_path / "e", options(min_user=2))


def test_a_damaged_folder_and_options_of_reading_are_refused(orders: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    build_data([str(orders)], folder, options())
    with pytest.raises(DataError, match="leave these options out"):
        load_data(folder, where="score > 1")
    shutil.copy(folder / "interactions/indptr.npy", folder / "interactions/timestamps.npy")
    with pytest.raises(DataError, match="differ in length"):
        load_data(folder)


def test_malformed_sources_are_refused_by_line_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("user,item\n1,2\n3\n")
    with pytest.raises(DataError, match=r"bad\.csv, line 3"):
        build_data([str(tmp_path / "bad.csv")], tmp_path / "d", options())
    assert sorted(contents(tmp_path / "d")) == ["build/plan.json"]
    with pytest.raises(DataError, match="ml-100k needs no build"):
        build_data(["ml-100k"], tmp_path / "d", options())
    with pytest.raises(DataError, match="at least 256 MiB"):
        options(memory=1 << 20)


def test_the_smallest_memory_is_enough_for_a_file_of_many_buffers(tmp_path: Path) -> None:
    note = "x" * 10_000
    lines = [f"{row},{row % 7},{note}\n" for row in range(7_000)]
    (tmp_path / "u.csv").write_text(
        "user,item,note\n" + "".join(lines)
    )  # 70 MB, of which DuckDB parsed 32 MB at a time
    assert len(build_data([str(tmp_path / "u.csv")], tmp_path / "d", options(memory=256 << 20))) == 7_000


def test_vectors_measure_as_they_do_on_the_files(log: Path, plain: Interactions) -> None:
    ordinary = load_data(log)
    rng = np.random.default_rng(1)
    users, items = (rng.standard_normal((n, 4), np.float32) for n in ordinary.shape)
    own = (users[rows_of(plain.user_ids, ordinary.user_ids)], items[rows_of(plain.item_ids, ordinary.item_ids)])
    expected = measure_vectors(split(ordinary, "time:80/20"), users, items)
    assert measure_vectors(split(plain, "time:80/20"), *own) == pytest.approx(expected)


@pytest.mark.slow
def test_commands_take_the_folder(tmp_path: Path, command_line: CommandLine) -> None:
    rng = np.random.default_rng(0)
    pairs = sorted({(u, i) for u, i in zip(rng.integers(0, 60, 1500), rng.integers(0, 40, 1500), strict=True)})
    (tmp_path / "log.csv").write_text(
        "\n".join(["user,item,time", *(f"u{u},i{i},{(7919 * u + 7 * i) % 9973}" for u, i in pairs)])
    )
    how = ("--split", "leave-last-out")
    made = command_line("data", "build", "log.csv", "--out", "built", *how, "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "sorting by user and time" in made.stderr
    trained = command_line(
        "train", "built", "--backbone", "svd", "--dimensions", "4", *how, "--set", "a=0.4", "--set", "b=0.4",
        "--out", "run", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    measured = command_line("evaluate", "run", "--data", "built", "--sample-users", "20", "--json", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    [found] = json.loads(measured.stdout)
    assert found["sampled_users"] == 20
    low, high = found["interval"]["ndcg@20"]
    assert low <= found["ndcg@20"] <= high
    streamed = command_line(
        "stream", "built", "--segments", "4", "--backbone", "ials", "--budget", "50%", "--dimensions", "4",
        "--holdout", "user", "--out", "stream", cwd=tmp_path,
    )  # fmt: skip
    assert streamed.returncode == 0, streamed.stderr
    exported = command_line("export", "run", "--out", "b", "--data", "built", "--precision", "int8", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
