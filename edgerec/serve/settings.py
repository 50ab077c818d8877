"""The settings of a server, from which the command lines of `edgerec serve` and `python -m edgerec.serve` are built."""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgerec.errors import ServeError

LOOPBACK = "127.0.0.1"
THING = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""Names of Things, which are parts of paths."""
ORIGIN = re.compile(r"https?://[^\s/?#@*]+/?", re.IGNORECASE)
RESERVED = ("healthz", "metrics", "models", "things")
BUNDLES = (
    "Bundles to serve, folders or files; NAME=BUNDLE names the Thing, which has the bundle's name without its ending "
    "otherwise."
)


def _is(help: str, metavar: str | None = None, least: float | None = None) -> dict[str, Any]:
    return {"help": help, "metavar": metavar, "least": least}


@dataclass(frozen=True)
class Settings:
    """Bundles to serve, and the place, the clients and the limits; each field but `bundles` is an option.

    `check` says which combinations are refused.
    """

    bundles: tuple[str, ...]
    host: str = field(
        default=LOOPBACK,
        metadata=_is("Address to listen on; any other than one of this machine alone needs --token-file.", "ADDRESS"),
    )
    port: int = field(default=8080, metadata=_is("Port to listen on; 0 for any free one.", "N", least=0))
    name: str | None = field(default=None, metadata=_is("Title of the Thing, such as 'Living room'.", "TEXT"))
    token_file: Path | None = field(
        default=None,
        metadata=_is(
            "File of tokens, a line each, such as 'read,feedback TOKEN'; without it, requests need no token, and no "
            "client can change a bundle.",
            "FILE",
        ),
    )
    state: Path | None = field(
        default=None,
        metadata=_is(
            "Folder of the sessions and of the Thing's id; edgerec/serve in the user's state folder by default.",
            "FOLDER",
        ),
    )
    watch: tuple[str, ...] = field(
        default=(),
        metadata=_is(
            "Folder or URL to look for patches and bundles in; NAME=PLACE if there are several bundles, and {model} in "
            "a URL stands for the sha256 of the current model.",
            "PLACE",
        ),
    )
    watch_every: float = field(default=60.0, metadata=_is("Seconds between two looks at --watch.", "X", least=0.1))
    trusted: tuple[Path, ...] = field(
        default=(),
        metadata=_is(
            "Public key (.pub); bundles and patches are refused unless one of the given keys signed them.", "KEY.pub"
        ),
    )
    allow_rollback: bool = field(
        default=False, metadata=_is("Take a bundle of --watch with a smaller rollback index than the current one.")
    )
    behind_proxy: str | None = field(
        default=None,
        metadata=_is("URL at which a proxy on this machine offers the server; it is written into descriptions.", "URL"),
    )
    cert: Path | None = field(default=None, metadata=_is("Certificate chain (PEM), for https; needs --key.", "FILE"))
    key: Path | None = field(default=None, metadata=_is("Private key (PEM) of --cert.", "FILE"))
    page: Path | None = field(
        default=None,
        metadata=_is(
            "Folder that 'edgerec demo BUNDLE --out FOLDER' wrote; the page and the bundle's files need no token then.",
            "FOLDER",
        ),
    )
    cors: tuple[str, ...] = field(
        default=(),
        metadata=_is(
            "Origin of web pages of another address that may send requests, such as https://example.org.", "ORIGIN"
        ),
    )
    max_k: int = field(default=1000, metadata=_is("Maximum number of items of an answer.", "N", least=1))
    max_history: int = field(
        default=1000, metadata=_is("Maximum number of items of a history, and of a session.", "N", least=1)
    )
    max_body: int = field(
        default=256 << 10, metadata=_is("Maximum number of bytes of a request, patches aside.", "N", least=1)
    )
    rate: float = field(
        default=100.0, metadata=_is("Maximum number of requests a second of a client; 0 for no limit.", "X", least=0)
    )
    concurrency: int = field(
        default=64, metadata=_is("Maximum number of requests at once, and of streams of events.", "N", least=1)
    )
    threads: int = field(default=1, metadata=_is("Number of onnxruntime's threads for one answer.", "N", least=0))
    access_log: bool = field(
        default=False, metadata=_is("Write a line of the log for each request, without anything of its sender.")
    )
    mdns: bool = field(default=False, metadata=_is("Announce the Things in the local network, by DNS-SD (_wot._tcp)."))
    mqtt: str | None = field(
        default=None,
        metadata=_is("Broker, such as mqtt://USER@HOST, by which Home Assistant discovers the Things.", "URL"),
    )
    mqtt_password_file: Path | None = field(
        default=None, metadata=_is("File of the password of the broker's user.", "FILE")
    )
    mcp: bool = field(
        default=False,
        metadata=_is("Serve an agent on standard input and output, by the Model Context Protocol, instead of HTTP."),
    )

    @property
    def is_open(self) -> bool:
        """True if others than this machine can reach the server."""
        return self.behind_proxy is not None or not is_loopback(self.host)

    def things(self) -> dict[str, Path]:
        """Return the bundles by the names of their Things. Raises ServeError for unusable or equal names."""
        found: dict[str, Path] = {}
        for one in self.bundles:
            name, path = _named(one)
            name = name or re.sub(r"[^a-z0-9]+", "-", path.name.rpartition(".")[0].lower() or path.name.lower()).strip(
                "-"
            )
            if not THING.fullmatch(name) or name in RESERVED:
                raise ServeError(
                    f"{name!r} cannot be a Thing's name (small letters, digits and hyphens, none of "
                    f"{', '.join(RESERVED)}); name the bundle: films={path}"
                )
            if name in found:
                raise ServeError(f"two bundles are named {name!r}; name them: films=a.bundle books=b.bundle")
            found[name] = path
        return found

    def watched(self) -> dict[str, str]:
        """Return the places of --watch by the names of their Things. Raises ServeError for others."""
        things, found = list(self.things()), {}
        for one in self.watch:
            name, _, place = one.partition("=")
            if name not in things:
                name, place = (things[0], one) if len(things) == 1 else ("", one)
            if not name or not place or name in found:
                raise ServeError(
                    f"--watch {one} must name one place for each of {', '.join(things)}; write NAME=FOLDER or NAME=URL"
                )
            if is_url(place) and not self.trusted:
                raise ServeError("--watch of a URL needs --trusted KEY.pub, since anybody may answer there")
            found[name] = place
        return found

    def check(self) -> None:
        """Check what the settings say together. Raises ServeError."""
        self.things()
        self.watched()
        if self.is_open and self.token_file is None:
            raise ServeError(
                "others could reach this server, and anybody could use it; give --token-file FILE, or leave out "
                "--host and --behind-proxy"
            )
        if self.behind_proxy is not None:
            parts = urlsplit(self.behind_proxy)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise ServeError(f"--behind-proxy {self.behind_proxy} is no URL; write https://example.org/things")
            if not is_loopback(self.host):
                raise ServeError("--behind-proxy is for a proxy on this machine; leave out --host")
        for origin in self.cors:
            if not ORIGIN.fullmatch(origin):
                raise ServeError(f"--cors {origin} is no origin of web pages; write https://example.org, one for each")
        if self.mcp and (self.is_open or self.mdns or self.mqtt is not None):
            raise ServeError(
                "--mcp serves the program that started it alone; leave out --host, --behind-proxy, --mdns and --mqtt"
            )
        if self.mqtt is None and self.mqtt_password_file is not None:
            raise ServeError("--mqtt-password-file is of a broker; add --mqtt mqtt://USER@HOST")
        if (self.cert is None) != (self.key is None):
            raise ServeError("--cert and --key belong together; give both")
        if self.port > 65535:
            raise ServeError(f"there is no port {self.port}; give one up to 65535")


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach an address."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _named(text: str) -> tuple[str | None, Path]:
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals and "/" not in name else (None, Path(text))


def options() -> list[Field[Any]]:
    """Return the fields that are options of the command line."""
    return [one for one in fields(Settings) if one.default is not MISSING]


def flag(option: Field[Any]) -> str:
    """Return an option's name on the command line."""
    return f"--{option.name.replace('_', '-')}"


def kind(option: Field[Any]) -> type:
    """Return the type of an option's value, or of one of its values."""
    text = str(option.type)
    return next(
        of for word, of in (("bool", bool), ("int", int), ("float", float), ("Path", Path), ("", str)) if word in text
    )


def parsed(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line of `python -m edgerec.serve`, which needs no other package."""
    parser = argparse.ArgumentParser(
        prog="python -m edgerec.serve", description="Serve bundles as Web Things.", allow_abbrev=False
    )
    parser.add_argument("bundles", metavar="BUNDLE", nargs="+", help=BUNDLES)
    for one in options():
        help = f"{one.metadata['help']} (default: {one.default})" if one.default else one.metadata["help"]
        if kind(one) is bool:
            parser.add_argument(flag(one), action="store_true", help=help)
        else:
            how: dict[str, Any] = {"action": "append"} if isinstance(one.default, tuple) else {"default": one.default}
            parser.add_argument(
                flag(one), type=_reader(one), metavar=one.metadata["metavar"], help=help.replace("%", "%%"), **how
            )
    given = vars(parser.parse_args(arguments))
    values: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one for name, one in given.items() if one is not None
    }
    return Settings(**values)


def _reader(option: Field[Any]) -> Any:
    of, least = kind(option), option.metadata["least"]

    def read(text: str) -> Any:
        value = of(text)
        if least is not None and not value >= least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least:g}")
        return value

    read.__name__ = {int: "whole number", float: "number"}.get(of, "text")
    return read
