"""`fleetlake sql` alone: a shell with history and completion. Each query sees the newest published state."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from fleetlake.cli.output import WRITERS
from fleetlake.errors import UserError, file_reason
from fleetlake.session import Answer, Session, require_folder

PROMPT = "fleetlake> "
HELP = """\
A query ends with ; and may have several lines; several queries are answered one after the other.
Tab completes; the up arrow recalls earlier queries.
.tables          tables, views and macros, with a sentence about each
.columns TABLE   a table's columns, with descriptions
.mode NAME       table, line, markdown, csv or json (also .format)
.limit N         show at most N rows; 0 shows all
.output FILE     write answers to a file; .output alone shows them again
.timer on|off    say how long each query took
.help            this help
.quit            leave (or Ctrl-D)
docs/queries.md has twenty queries to begin with."""

TABLES = """
SELECT name, kind, regexp_extract(coalesce(comment, ''), '^(.*?[.;:])( |$)', 1) AS "what it holds" FROM (
  SELECT table_name AS name, 'table' AS kind, comment FROM duckdb_tables() WHERE database_name = 'fleet'
  UNION ALL SELECT view_name, 'view', comment FROM duckdb_views() WHERE database_name = 'fleet' AND NOT internal
  UNION ALL SELECT function_name || '(' || coalesce(list_aggregate(parameters, 'string_agg', ', '), '') || ')',
  'macro', comment FROM duckdb_functions() WHERE database_name = 'fleet'
) ORDER BY list_position(['table', 'view', 'macro'], kind), name"""

COLUMNS = """
SELECT column_name, data_type, comment FROM duckdb_columns()
WHERE database_name = 'fleet' AND table_name = '{}' ORDER BY column_index"""


class Shell:
    """What the shell does with a line, however the line is read."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._format = "table"
        self._limit = 1000
        self._timed = True
        self._output: Path | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            ".tables": lambda _: self._print(TABLES),
            ".columns": self._columns,
            ".mode": self._set_format,
            ".format": self._set_format,
            ".limit": self._set_limit,
            ".output": self._set_output,
            ".timer": self._set_timer,
            ".help": lambda _: print(HELP),
        }

    @property
    def commands(self) -> list[str]:
        """Names of the dot commands."""
        return [*self._commands, ".quit"]

    def run(self, text: str) -> bool:
        """Run a line; False if it is a command to quit. Errors are printed, not raised."""
        text = text.strip()
        word, _, argument = text.partition(" ")
        if word in (".quit", ".exit", "exit", "quit", "exit;", "quit;"):
            return False
        try:
            if not text.startswith("."):
                self._answer(text)
            elif word in self._commands:
                self._commands[word](argument.strip().rstrip(";"))
            else:
                raise UserError(f"{word}: no such command; .help lists them")
        except UserError as error:
            print(error, file=sys.stderr)
        except OSError as error:
            print(file_reason(error), file=sys.stderr)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
        return True

    def _answer(self, text: str) -> None:
        """Print the answer of each statement, its number of rows and the time that it took."""
        answers = self._session.answers(text)
        begun = time.monotonic()
        for answer in answers:
            rows = self._write(answer)
            taken = f" in {time.monotonic() - begun:.3f} s" if self._timed else ""
            if rows is not None and self._format in ("table", "line"):
                print(f"{rows:,} row{'' if rows == 1 else 's'}{taken}")
            begun = time.monotonic()

    def _write(self, answer: Answer) -> int | None:
        """Write an answer; its number of rows, or None where it is long and was cut, which is said already."""
        counted = 0

        def counting() -> Iterator[list[tuple[Any, ...]]]:
            nonlocal counted
            for batch in answer.batches:
                counted += len(batch)
                yield batch

        shown = Answer(answer.names, answer.types, counting())
        if self._output is None:
            WRITERS[self._format](shown, sys.stdout, self._limit)
        else:
            with self._output.open("a", encoding="utf-8") as out:
                WRITERS[self._format](shown, out, self._limit)
        return None if self._limit and counted > self._limit else counted

    def _print(self, statement: str) -> None:
        if answer := self._session.ask(statement):
            WRITERS[self._format](answer, sys.stdout, self._limit)

    def _columns(self, table: str) -> None:
        if not table:
            raise UserError(".columns needs a table; .tables lists them")
        self._print(COLUMNS.format(table.replace("'", "''")))

    def _set_format(self, name: str) -> None:
        if name not in WRITERS:
            raise UserError(f".mode takes {', '.join(WRITERS)}")
        self._format = name

    def _set_limit(self, number: str) -> None:
        if not number.isdecimal():
            raise UserError(".limit takes a number; 0 shows all rows")
        self._limit = int(number)

    def _set_output(self, name: str) -> None:
        if name in ("", "stdout"):
            self._output = None
            return
        target = Path(name).expanduser()
        require_folder(target)
        target.write_text("", encoding="utf-8")
        self._output = target

    def _set_timer(self, word: str) -> None:
        if word not in ("on", "off"):
            raise UserError(".timer takes on or off")
        self._timed = word == "on"


def run_shell(data: Path, **terminal: Any) -> None:
    """Read and run queries until the user leaves. `terminal`: input and output, if not the process's own."""
    with Session(data) as session:
        shell = Shell(session)
        prompt: PromptSession[str] = PromptSession(
            PROMPT,
            history=_history(),
            multiline=True,
            prompt_continuation=lambda width, *_: ".> ".rjust(width),
            key_bindings=_bindings(),
            completer=Words({**session.words(), **dict.fromkeys(shell.commands, "")}),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            lexer=PygmentsLexer(SqlLexer),
            **terminal,
        )
        print(
            f"{session.folder}, read-only; each query sees the newest published state. .help shows help, .quit quits."
        )
        while True:
            try:
                text = prompt.prompt()
            except KeyboardInterrupt:
                continue  # Ctrl-C clears the line
            except EOFError:
                return
            if not shell.run(text):
                return


def complete(text: str) -> bool:
    """Whether Enter runs the text: it ends with a semicolon, or is a command, or nothing."""
    text = text.strip()
    return not text or text.startswith(".") or text.endswith(";") or text in ("exit", "quit")


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    return bindings


class Words(Completer):
    """Completes names of tables, columns and functions, and the shell's commands; case does not matter."""

    def __init__(self, words: dict[str, str]) -> None:
        self._words = words

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Words that begin like the one before the cursor."""
        begun = _WORD.search(document.text_before_cursor)
        start = begun[0] if begun else ""
        for word, meaning in self._words.items():
            if word.lower().startswith(start.lower()):
                yield Completion(word, -len(start), display_meta=meaning)


_WORD = re.compile(r"(^\.\w*|\w*)$")


def _history() -> History:
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "fleetlake"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sql_history").touch(mode=0o600)
    except OSError:
        return InMemoryHistory()  # a container without a home
    return FileHistory(str(folder / "sql_history"))
