"""The configuration: file, environment, secrets, and errors that name the key."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fleetlake.config import chosen_vendors, effective_toml, example_toml, load_settings, settings_class
from fleetlake.config_examples import EXAMPLES
from fleetlake.config_text import purpose, toml_value
from fleetlake.errors import UserError
from fleetlake.local.stage_config import stage_config


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("FLEETLAKE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _write(text: str) -> Path:
    path = Path("fleetlake.toml")
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_defaults_hold() -> None:
    settings = load_settings(None)
    assert settings.kafka.bootstrap_servers == ""
    assert settings.pipeline.data == Path("data")


def test_environment_beats_file_and_command_line_beats_both(monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write('[kafka]\npartitions = 3\napplication_id = "a"\n[pipeline]\ndata = "x"\nlog_level = "error"\n')
    monkeypatch.setenv("FLEETLAKE_KAFKA__PARTITIONS", "6")
    monkeypatch.setenv("FLEETLAKE_PIPELINE__DATA", "y")
    settings = load_settings(path, pipeline={"data": Path("z")})
    assert settings.kafka.partitions == 6
    assert settings.kafka.application_id == "a"
    assert settings.pipeline.data == Path("z")
    assert settings.pipeline.log_level == "error"


def test_secrets_of_channels_come_from_files_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("secret").write_text("from a file\n")
    path = _write(
        '[notify.channels.ops]\nchannel_type = "webhook"\n'
        'config = { url = "https://example.com", secret_file = "secret" }\n'
        '[notify.channels.mail]\nchannel_type = "email"\n'
        'config = { host = "h", sender = "a@b.c", recipients = ["d@e.f"] }\n'
    )
    monkeypatch.setenv("FLEETLAKE_NOTIFY__CHANNELS__MAIL__CONFIG__PASSWORD", "from the environment")
    monkeypatch.setenv("FLEETLAKE_NOTIFY__CHANNELS__OPS__CONFIG__BEARER_TOKEN_FILE", "secret")
    settings = load_settings(path)
    toml = effective_toml(settings)
    assert "from" not in toml and "example.com" not in toml
    _write(effective_toml(settings, masked=False))
    for name in ("MAIL__CONFIG__PASSWORD", "OPS__CONFIG__BEARER_TOKEN_FILE"):
        monkeypatch.delenv(f"FLEETLAKE_NOTIFY__CHANNELS__{name}")
    assert load_settings(path) == settings
    secrets = {key: channel.config.model_dump() for key, channel in settings.notify.channels.items()}
    assert secrets["mail"]["password"].get_secret_value() == "from the environment"
    assert secrets["ops"]["secret"].get_secret_value() == "from a file"
    assert secrets["ops"]["bearer_token"].get_secret_value() == "from a file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[kafka]\n\npartitions = 0\n", "fleetlake.toml, line 3: [kafka] partitions: has to be at least 1"),
        ("[kafka]\nbootstrap = 1\n", "fleetlake.toml, line 2: [kafka] bootstrap: no such key"),
        ("[kafkaa]\nx = 1\n", "fleetlake.toml, line 1: kafkaa: no such key"),
        ("[pipeline]\nvendors = [\n  'karcher',\n  'kaercher' ]\n", "line 2: [pipeline.vendors] 1: has to be"),
        ("[sink.delta]\nno_such = 1\n", "line 2: [sink.delta] no_such: no such key"),
        ("[kafka\n", "fleetlake.toml: not valid TOML: "),
    ],
)
def test_a_bad_file_is_refused_with_key_and_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_settings(_write(text))
    assert message in str(caught.value)


def test_a_bad_variable_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETLAKE_KAFKA__PARTITIONS", "many")
    with pytest.raises(UserError, match=r"environment variable FLEETLAKE_KAFKA__PARTITIONS: \[kafka\] partitions"):
        load_settings(None)


def test_lists_in_the_environment_are_words_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("karcher, ogmen", '["karcher", "ogmen"]'):
        monkeypatch.setenv("FLEETLAKE_PIPELINE__VENDORS", text)
        assert load_settings(None).pipeline.vendors == ["karcher", "ogmen"]
    monkeypatch.setenv("FLEETLAKE_PIPELINE__VENDORS", "kaercher")
    with pytest.raises(UserError, match=r"\[pipeline.vendors\] 0: has to be"):
        load_settings(None)
    monkeypatch.delenv("FLEETLAKE_PIPELINE__VENDORS")
    for name in ("FLEETLAKE_STREAM__GROUPS", "FLEETLAKE_PIPELINE", "FLEETLAKE_SINK__DELTA"):
        monkeypatch.setenv(name, "{broken")
        with pytest.raises(UserError, match=f"environment variable {name}: .*is a table"):
            load_settings(None)
        monkeypatch.delenv(name)


@pytest.mark.parametrize("path", ["", "  ", "a%20b"])
def test_a_data_folder_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("FLEETLAKE_PIPELINE__DATA", path)
    with pytest.raises(UserError, match=r"FLEETLAKE_PIPELINE__DATA: \[pipeline\] data: (is empty|the path holds %20)"):
        load_settings(None)


def test_a_byte_order_mark_is_no_part_of_a_file() -> None:
    Path("secret").write_text("\ufeffs3cret\n", encoding="utf-8")
    settings = load_settings(_write('\ufeff[kafka]\npartitions = 7\nsasl_password_file = "secret"\n'))
    assert settings.kafka.partitions == 7
    assert settings.kafka.sasl_password.get_secret_value() == "s3cret"


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("devices/s1/sensors/#", "has no level \\+"),
        ("$share/+/devices/s1", "has no level \\+"),
        ("devices/a+/x", "has no level \\+"),
        ("devices/+/#/x", "is no MQTT topic filter"),
        ("devices/+/x+", "is no MQTT topic filter"),
    ],
)
def test_topic_filters_without_a_place_for_the_device_are_refused(topic: str, reason: str) -> None:
    with pytest.raises(UserError, match=rf"line 2: \[wayscloud\] topics: '.*' {reason}"):
        load_settings(_write(f"[wayscloud]\ntopics = ['devices/+/x', '{topic}']\n"))


def test_all_wrong_keys_are_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        load_settings(_write("[kafka]\npartitions = 0\n[broker]\nport = 70000\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_file_says_what_to_do() -> None:
    with pytest.raises(UserError, match="config --example"):
        load_settings(Path("nowhere.toml"))


def test_secrets_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    from_file = load_settings(_write('[kafka]\nsasl_password_file = "secret"\n'))
    assert from_file.kafka.sasl_password.get_secret_value() == "s3cret"
    monkeypatch.setenv("FLEETLAKE_KARCHER__CLIENT_SECRET_FILE", str(tmp_path / "secret"))
    assert load_settings(_write("")).karcher.client_secret.get_secret_value() == "s3cret"
    with pytest.raises(UserError, match=r"^\[kafka\] sasl_password_file: cannot read"):
        load_settings(_write('[kafka]\nsasl_password_file = "absent"\n'))
    with pytest.raises(UserError, match=r"^\[notify.channels.ops.config\] url_file: cannot read"):
        load_settings(_write('[notify.channels.ops]\nchannel_type = "slack"\nconfig = { url_file = "absent" }\n'))


def test_effective_configuration_masks_secrets_and_reads_back() -> None:
    settings = load_settings(_write('[kafka]\nsasl_password = "hush"\npartitions = 7\n'))
    shown = effective_toml(settings)
    assert "hush" not in shown
    assert "********" in shown
    reloaded = load_settings(_write(effective_toml(settings, masked=False)))
    assert reloaded == settings


def test_the_example_is_valid_toml_and_lists_every_key() -> None:
    text = example_toml()
    assert load_settings(_write(text)) == settings_class()()
    assert "[kafka]" in text
    for name in settings_class().model_fields["kafka"].annotation.model_fields:  # type: ignore[union-attr]
        assert f"# {name} =" in text, name
    tomllib.loads(text)


@pytest.mark.parametrize("in_memory", [True, False], ids=["Linux", "elsewhere"])
def test_stages_read_secrets_that_nobody_else_can_read_and_that_are_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create")
    settings = load_settings(None, pipeline={"data": tmp_path}, kafka={"sasl_password": "hush"})
    shown, password = tmp_path / "effective.toml", "import pathlib, sys; print(pathlib.Path(sys.argv[1]).read_text())"
    with stage_config(settings) as config:
        assert ("hush" in shown.read_text()) is not in_memory, "what is killed now leaves this"
        assert stat.S_IMODE(shown.stat().st_mode) == 0o600
        for _ in range(2):  # a stage that is started again reads it once more
            command = [sys.executable, "-c", password, str(config.path)]
            read = subprocess.run(command, pass_fds=config.files, capture_output=True, text=True, check=True)
            assert tomllib.loads(read.stdout)["kafka"]["sasl_password"] == "hush"
    assert "hush" not in shown.read_text() and load_settings(shown).kafka.sasl_password.get_secret_value() == "*" * 8


def test_vendors_are_checked() -> None:
    settings = load_settings(None)
    with pytest.raises(UserError, match="unknown vendor 'kaercher'; known are karcher, ogmen"):
        chosen_vendors(settings, ["kaercher"])
    with pytest.raises(UserError, match="no vendor to connect to"):
        chosen_vendors(settings, [])
    assert chosen_vendors(settings, ["ogmen"]) == ["ogmen"]


def test_secrets_in_a_list_of_tables_may_come_from_files() -> None:
    Path("secret").write_text("s3cret\n")
    path = _write(
        "[[wayscloud.device_credentials]]\ndevice_id = 'a'\nusername = 'u'\npassword_file = 'secret'\n"
        "[[wayscloud.device_credentials]]\ndevice_id = 'b'\nusername = 'u'\npassword = 'plain'\n"
    )
    settings = load_settings(path)
    assert [c.password.get_secret_value() for c in settings.wayscloud.device_credentials] == ["s3cret", "plain"]
    assert "s3cret" not in effective_toml(settings)
    assert tomllib.loads(effective_toml(settings))["wayscloud"]["device_credentials"][0]["device_id"] == "a"
    path = _write("[[wayscloud.device_credentials]]\ndevice_id = 'a'\nusername = 'u'\n" * 2)
    with pytest.raises(UserError, match="a is there twice"):
        load_settings(path)


def test_a_section_is_introduced_by_whole_sentences() -> None:
    class Section(BaseModel):
        """The first sentence goes on
        for two lines.

        The second paragraph is for developers.
        """

    assert list(purpose(Section)) == ["# The first sentence goes on", "# for two lines."]


def _defaults(model: type[BaseModel], path: str) -> Iterator[tuple[str, FieldInfo]]:
    """The keys whose default is nothing, with their tables."""
    for name, field in model.model_fields.items():
        value = field.get_default(call_default_factory=True)
        here = f"{path}.{name}".strip(".")
        if isinstance(value, BaseModel):
            yield from _defaults(type(value), here)
        elif value is None or value in ([], {}):
            yield here, field


def test_every_key_whose_default_is_nothing_shows_an_example() -> None:
    shown = {key: field for key, field in _defaults(settings_class(), "") if not key.startswith("simulate.")}
    secret = {key for key, field in shown.items() if "SecretStr" in str(field.annotation)}
    assert shown.keys() - secret - EXAMPLES.keys() == set()
    assert '# keys_file = "climasense-keys.toml"  # an example' in example_toml()


def test_the_examples_are_valid_together(tmp_path: Path) -> None:
    tables: dict[str, Any] = {}
    for key, value in EXAMPLES.items():
        *path, name = key.split(".")
        table = tables
        for part in path:
            table = table.setdefault(part, {})
        table[name] = value
    Path("hook.secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    text = "\n".join(
        f"[{name}]\n" + "\n".join(f"{key} = {toml_value(value, masked=False)}" for key, value in table.items())
        for name, table in _flat(tables, "")
    )
    settings = load_settings(_write(text))
    assert settings.stream.wayscloud_datapoints["temp_f"].metric == "environment.temperature"
    assert list(settings.notify.channels) == ["ops", "night"]


def _flat(tables: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tables by name; a table that holds keys of the examples is one, an example that is a table is not."""
    own = {key: value for key, value in tables.items() if f"{path}.{key}".strip(".") in EXAMPLES}
    if own:
        yield path, own
    for key, value in tables.items():
        if key not in own:
            yield from _flat(value, f"{path}.{key}".strip("."))


def test_the_simulated_clouds_are_shown_when_asked_for() -> None:
    assert "[simulate" not in example_toml() and "[simulate.karcher]" in example_toml(simulators=True)


def test_descriptions_are_sentences() -> None:
    def described(model: type[BaseModel], path: str) -> Iterator[tuple[str, str]]:
        for name, field in model.model_fields.items():
            value = field.get_default(call_default_factory=True)
            if isinstance(value, BaseModel):
                yield from described(type(value), f"{path}.{name}")
            elif field.description:
                yield f"{path}.{name}", field.description

    begins = re.compile(r"[A-Z0-9`/]|deltalake|host:port")
    odd = {key: text for key, text in described(settings_class(), "") if text[-1] != "." or not begins.match(text)}
    assert odd == {}
