"""Starting a server: settings checked, tokens read, bundles opened, an address bound, and then HTTP."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgerec.errors import ServeError
from edgerec.extras import require
from edgerec.files import read_if_there, state_folder, storage_failure, write_bytes
from edgerec.serve.operations import log, start_log
from edgerec.serve.settings import Settings, is_loopback
from edgerec.serve.tokens import Tokens

if TYPE_CHECKING:
    from edgerec.serve.app import Server, Task
    from edgerec.serve.protocol import Listener

BACKLOG = 256


def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve bundles until SIGTERM or SIGINT.

    Args:
        ready: called with the URL of the server's root, once it listens.

    Raises:
        ServeError: settings that do not fit together, tokens of another form, an address that is in use.
        BundleError, SignatureError, SigningKeyError: a bundle cannot be opened.
        MissingExtraError: starlette or uvicorn is not installed.
        StorageError: the file system refuses.
    """
    settings.check()
    for package in ("starlette", "uvicorn"):
        require(package, "serve")
    # It needs the packages of the extra, which `python -m edgerec.serve --help` does not.
    from edgerec.serve.protocol import prepared

    start_log()
    server = built(settings)
    if settings.mcp:
        from edgerec.serve.mcp import serve_stdio

        serve_stdio(server.things, server.tasks)
        return
    runner = prepared(server)
    with _bound(settings) as bound:
        url = _url(settings, bound)
        server.tasks += _offers(server, bound.getsockname()[1])
        log("listening", url=url, things=sorted(server.things), tokens=server.tokens.needed)
        ready(url)
        runner.run([bound])
    log("stopped")


def built(settings: Settings) -> Server:
    """Open the bundles, and return what the routes share. Raises as `serve` does."""
    from edgerec.serve.app import Server
    from edgerec.serve.thing import Thing
    from edgerec.serve.updates import Updater
    from edgerec.serve.watch import Watch

    tokens, places = Tokens(settings.token_file), settings.things()
    state = private_folder((settings.state or state_folder("serve")).absolute())
    title = settings.name or (next(iter(places)) if len(places) == 1 else "Recommenders")
    things = {}
    for name, folder in places.items():
        of = title if len(places) == 1 else f"{title}: {name}" if settings.name else name
        sessions = private_folder(state / "sessions" / name)
        things[name] = Thing(name, of, folder, settings, sessions, tokens.rights)
    if settings.page is not None and (file := next((one for one in places.values() if one.is_file()), None)):
        raise ServeError(f"--page reads a bundle in a folder, and {file} is one file; run 'edgerec unpack' first")
    updaters = {name: Updater(thing, settings, private_folder(state / "updates")) for name, thing in things.items()}
    own = _id(state)
    ids = {name: uuid.uuid5(own, name).urn for name in things} | {"": own.urn}
    server = Server(settings, things, updaters, tokens, ids, title)
    for name, place in settings.watched().items():
        memory = private_folder(state / "watched") / f"{name}.json"
        server.tasks.append(Watch(updaters[name], place, settings.watch_every, memory).run)
    return server


def _offers(server: Server, port: int) -> list[Task]:
    """Return the tasks that offer the Things in other ways than HTTP.

    Raises ServeError, MissingExtraError, StorageError.
    """
    settings = server.settings
    found: list[Task] = []
    if settings.mdns:
        from edgerec.serve.mdns import Announcement

        paths = ["/.well-known/wot"] if len(server.things) == 1 else [f"/{name}" for name in server.things]
        titles = (thing.title for thing in server.things.values())
        scheme = "http" if settings.cert is None else "https"
        found.append(Announcement(dict(zip(titles, paths, strict=True)), settings.host, port, scheme).run)
    if settings.mqtt is not None:
        from edgerec.serve.mqtt import Broker, offer

        require("aiomqtt", "mqtt")
        broker = Broker.of(settings.mqtt, settings.mqtt_password_file)
        found.append(partial(offer, server.things, broker, uuid.UUID(server.ids[""]).hex))
    return found


def _id(state: Path) -> uuid.UUID:
    """Return the id of this server, which the first start creates: descriptions keep their ids."""
    path = state / "id"
    content = read_if_there(path)
    try:
        return uuid.UUID((content or b"").decode())
    except ValueError:
        created = uuid.uuid4()
        write_bytes(path, str(created).encode(), private=True)
        return created


def _bound(settings: Settings) -> Listener:
    """Return a socket that is bound to the address. Raises ServeError."""
    from edgerec.serve.protocol import Listener

    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        bound = socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ServeError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; give an address of this machine "
            "and a free port (--port)"
        ) from error
    # asyncio sets it for sockets of its own only; without it an answer may wait 40 ms for an acknowledgement.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Listener(bound, shared=not is_loopback(settings.host))


def _url(settings: Settings, bound: socket.socket) -> str:
    host = settings.host.strip("[]")
    shown = f"[{host}]" if ":" in host else host
    return f"{'http' if settings.cert is None else 'https'}://{shown}:{bound.getsockname()[1]}/"


def private_folder(folder: Path) -> Path:
    """Make a folder and those above it, its owner's alone. Raises StorageError."""
    try:
        for path in [*reversed(folder.parents), folder]:
            if not path.is_dir():
                path.mkdir(0o700, exist_ok=True)
    except OSError as error:
        storage_failure(folder, error, "make")
    return folder
