"""Keys and signatures: made once, read or refused by name, and a bundle under trusted keys is what was signed."""

from __future__ import annotations

import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.errors import BudgetError, BundleError, MissingExtraError, SignatureError, SigningKeyError, StorageError
from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.manifest import FILE_NAME, read_manifest
from edgerec.signatures import claimed_signer, new_key, read_public_keys, read_signer
from edgerec_export import export
from tests.conftest import CommandLine, random_source

SOURCE = random_source(60, 20)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key; the public one lies beside it."""
    path = tmp_path_factory.mktemp("keys") / "films.key"
    new_key(path)
    return path


def public(key: Path) -> Path:
    return key.with_name(key.name + ".pub")


@pytest.fixture(scope="module")
def folder(key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed bundle."""
    return export(SOURCE, tmp_path_factory.mktemp("signed") / "b", layout="mixed", verify=False, sign=key).folder


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, password: bytes | None = None) -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(password) if password is not None else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def test_a_new_key_is_the_owners_alone_and_never_replaces_one(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "films.key"
    made = new_key(path)
    assert made == public(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    for one in (path, made):
        with pytest.raises(SigningKeyError, match="exists already"):
            new_key(path)
        one.unlink()
        one.write_bytes(before)
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, made.name}
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SigningKeyError, match="exists already"):
        new_key(tmp_path / "dangling")
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_key_is_refused_by_name(key: Path, tmp_path: Path) -> None:
    own = ed25519.Ed25519PrivateKey.generate()
    contents = {
        "text": b"no key\n",
        "locked": pem(own, b"password"),
        "other": pem(ec.generate_private_key(ec.SECP256R1())),
        "public": public(key).read_bytes(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SigningKeyError, match=f"{name} is"):
            read_signer(tmp_path / name)
    other_public = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "other.pub").write_bytes(
        other_public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for name in (tmp_path / "text", key, tmp_path / "other.pub"):
        with pytest.raises(SigningKeyError, match=f"{name.name} is"):
            read_public_keys(name)
    with pytest.raises(SigningKeyError, match="given as bytes"):
        read_public_keys(b"neither a PEM file nor 32 bytes long")
    with pytest.raises(SigningKeyError, match="no trusted key is given"):
        read_public_keys([])
    with pytest.raises(StorageError, match="nowhere"):
        read_public_keys([public(key), tmp_path / "nowhere"])


def test_a_signed_bundle_is_loaded_with_its_key_in_any_form(key: Path, folder: Path, tmp_path: Path) -> None:
    new_key(tmp_path / "other.key")
    other, ours = tmp_path / "other.key.pub", public(key)
    raw = serialization.load_pem_public_key(ours.read_bytes())
    assert isinstance(raw, ed25519.Ed25519PublicKey)
    for trusted in (ours, str(ours), ours.read_bytes(), raw.public_bytes_raw(), [other, ours], (one for one in [ours])):
        model = Recommender.load(folder, trusted=trusted)
        assert model.manifest.signed_by == read_signer(key).fingerprint
        assert len(model.recommend(5, 3)) == 3
    assert Recommender.load(folder).recommend(5, 3)
    with pytest.raises(SignatureError, match=r"manifest\.json is signed with the key [0-9a-f]{64}, which is none"):
        Recommender.load(folder, trusted=other)


def test_an_unsigned_bundle_is_loaded_without_trusted_keys_only(key: Path, tmp_path: Path) -> None:
    folder = export(SOURCE, tmp_path / "b", verify=False).folder
    assert Recommender.load(folder).manifest.signed_by is None
    with pytest.raises(SignatureError, match=r"manifest\.json is not signed"):
        Recommender.load(folder, trusted=public(key))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_altered_byte_of_any_file_is_refused(data: st.DataObject, key: Path, folder: Path) -> None:
    path = data.draw(st.sampled_from(sorted(folder.iterdir())), "file")
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1), "byte")
    flip = data.draw(st.integers(1, 255), "bits")
    try:
        path.write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
        with pytest.raises(BundleError, match=path.name) as refused:
            Recommender.load(folder, trusted=public(key), verify=False)
        assert isinstance(refused.value, SignatureError) == (path.name == FILE_NAME)
    finally:
        path.write_bytes(content)


def test_every_byte_of_the_signature_counts(key: Path, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "b"
    shutil.copytree(folder, place)
    content = (place / FILE_NAME).read_bytes()
    spelt = [content[:-132] + content[-132:].upper(), content[:-1], content + b"\n", content[:-228] + b"}\n"]
    flipped = [content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :] for at in range(-228, -1)]
    for altered in [*spelt, *flipped]:
        (place / FILE_NAME).write_bytes(altered)
        with pytest.raises(SignatureError, match=FILE_NAME):
            read_manifest(place, read_public_keys(public(key)))


def test_a_signature_of_another_bundle_does_not_serve(key: Path, folder: Path, tmp_path: Path) -> None:
    other = export(random_source(50, 20), tmp_path / "b", layout="mixed", verify=False, sign=key).folder
    ours, theirs = (place / FILE_NAME for place in (folder, other))
    theirs.write_bytes(theirs.read_bytes()[:-228] + ours.read_bytes()[-228:])
    with pytest.raises(SignatureError, match="altered after it was signed"):
        Recommender.load(other, trusted=public(key))


@pytest.mark.parametrize("signs", [True, False])
def test_a_bundle_replaced_while_it_is_loaded_must_be_signed_too(
    signs: bool, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(SOURCE, tmp_path / "b", layout="mixed", verify=False, sign=key).folder
    open_files = Bundle._open_files

    def replaced_first(self: Bundle, verify: bool, *, signed: bool) -> None:
        monkeypatch.setattr(Bundle, "_open_files", open_files)
        export(random_source(50, 20), folder, layout="mixed", verify=False, sign=key if signs else None)
        open_files(self, verify, signed=signed)

    monkeypatch.setattr(Bundle, "_open_files", replaced_first)
    if signs:
        assert Recommender.load(folder, trusted=public(key)).n_items == 50
    else:
        with pytest.raises(SignatureError, match="is not signed"):
            Recommender.load(folder, trusted=public(key))


def test_a_budget_counts_the_signature(key: Path, tmp_path: Path) -> None:
    unsigned = export(SOURCE, tmp_path / "b", layout="mixed", verify=False)
    done = export(SOURCE, tmp_path / "c", layout="mixed", verify=False, sign=key)
    assert done.nbytes == unsigned.nbytes + 226 == sum(path.stat().st_size for path in done.folder.iterdir())
    with pytest.raises(BudgetError) as refused:
        export(SOURCE, tmp_path / "d", layout="mixed", verify=False, sign=key, max_bytes=1)
    smallest = int(str(refused.value).partition(" allows is ")[2].split()[0])
    assert export(SOURCE, tmp_path / "d", layout="mixed", sign=key, max_bytes=smallest).nbytes == smallest


def test_a_key_that_cannot_sign_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key")
    with pytest.raises(SigningKeyError, match="edgerec keys new"):
        export(SOURCE, tmp_path / "b", sign=tmp_path / "key")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_without_cryptography_the_extra_is_named(key: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"pip install 'edgerec\[sign\]'"):
        Recommender.load(folder, trusted=public(key))
    assert Recommender.load(folder).recommend(5, 3)
    assert claimed_signer((folder / FILE_NAME).read_bytes()) is not None


class Missing:
    """Finds no `cryptography`, as where it is not installed."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.slow
def test_the_command_line_makes_keys_signs_and_checks(command_line: CommandLine, tmp_path: Path) -> None:

    rng = np.random.default_rng(0)
    for name, rows in (("items", 30), ("users", 10)):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((rows, 4), dtype=np.float32))
    made = command_line("keys", "new", "films.key", cwd=tmp_path)
    assert made.returncode == 0
    assert "keep it secret" in made.stdout
    again = command_line("keys", "new", "films.key", cwd=tmp_path)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    own = ["--items", "items.npy", "--users", "users.npy", "--no-verify"]
    for out, more in (("b", ["--sign", "films.key"]), ("plain", [])):
        done = command_line("export", *own, "--out", out, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    shown = command_line("inspect", "b", "--trusted", "films.key.pub", "--json", cwd=tmp_path)
    assert '"checked": true' in shown.stdout
    assert read_signer(tmp_path / "films.key").fingerprint in shown.stdout
    assert '"checked": false' in command_line("inspect", "b", "--json", cwd=tmp_path).stdout
    refused = command_line("inspect", "plain", "--trusted", "films.key.pub", cwd=tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "plain/manifest.json is not signed" in refused.stderr
    wrong = command_line("inspect", "b", "--trusted", "films.key", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("name", ["", ".", "n" * 300, "a\0b", "loop/x"])
def test_a_key_that_no_file_can_be_named_by_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises((SigningKeyError, StorageError)):
        new_key(Path(name) if name in ("", ".") else tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


def test_a_key_may_have_the_longest_name(tmp_path: Path) -> None:
    public = new_key(tmp_path / ("n" * 251))
    assert public.name == "n" * 251 + ".pub"
    assert public.exists()
