"""The command line's reference in Markdown, from the commands themselves.

usage: python -m edgerec.cli.reference > docs/cli.md
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from edgerec.cli.app import group


def reference() -> str:
    """Every command's help, as `edgerec COMMAND --help` prints it on 100 columns."""
    pages = [f"## {name}\n\n```text\n{text}\n```\n" for name, text in _pages("edgerec", group)]
    head = "# Command line\n\nMade by `python -m edgerec.cli.reference > docs/cli.md`; a test keeps it true.\n\n"
    return head + "\n".join(pages)


def _pages(path: str, command: click.Command, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    settings = {**command.context_settings, "terminal_width": 100}
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent, **settings)
    yield path, command.get_help(context).strip()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from _pages(f"{path} {name}", found, context)


if __name__ == "__main__":
    click.echo(reference(), nl=False)
