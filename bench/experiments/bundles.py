"""Export synthetic tables in every layout, as bundles to measure on any device.

usage: python -m bench.experiments.bundles --items 100000 --out FOLDER
       edgerec bench FOLDER/*.bundle --device arm64 --memory 256M --out arm64.json
"""

from __future__ import annotations

from pathlib import Path

import click

from bench.experiments.scale.contenders import CONTENDERS, ContenderBuilder
from edgerec_bench.command import bench_command
from edgerec_devices import Local


@bench_command
@click.option("--items", default=100_000, show_default=True, help="Number of items.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of the tables.")
@click.option("--users", default=1000, show_default=True, help="Number of users.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the bundles.")
def main(items: int, dimensions: int, users: int, out: Path) -> None:
    """Export the bundles of `bench.experiments.scale`: 10 %-dense items, and dense users (10 %-dense ones for csc)."""
    out.mkdir(parents=True, exist_ok=True)
    builder = ContenderBuilder(items, dimensions, users, out, Local())
    for spec in CONTENDERS:
        if spec.kind == "bundle":
            click.echo(f"{spec.name}: {builder.build(spec).nbytes:,} bytes")


if __name__ == "__main__":
    main()
