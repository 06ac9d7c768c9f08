"""The command `pantskit`: finds a command's module, runs it, and turns errors into one line.

A command lives in `pantskit/cli/<name>.py` as a function `command` (`import` in `import_.py`). Its
module is imported when it is asked for; it imports its stage inside the function, so that `--help`
stays fast.
"""

from __future__ import annotations

import errno
import importlib
import inspect
import keyword
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from pantskit import __version__
from pantskit.core.errors import PantskitError

COMMANDS = (
    "phantom", "download", "ingest", "import", "export", "duplicates", "check", "cohort", "train",
    "models", "predict", "evaluate", "demo", "info",
)  # fmt: skip

COULD_NOT_RUN = 2
INTERRUPTED = 130  # as shells report a process ended by SIGINT


class CommandGroup(TyperGroup):
    """The commands by name, loaded on demand, with every error reported as one line."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        """The command of this name; if there is none, all are loaded, to suggest one from."""
        for wanted in (name,) if name in COMMANDS else COMMANDS:
            if wanted not in self.commands:
                self.commands[wanted] = _load(wanted)
        return self.commands.get(name)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what it raises becomes a line on standard error and an exit status."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except KeyboardInterrupt:
            _say("interrupted: what was finished is kept; run the same command again to go on")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of our output left, as in `pantskit ... | head`
            if ctx.params.get("traceback"):
                _say(traceback.format_exc())
            _say(f"error: {explain(error)}")
            raise typer.Exit(COULD_NOT_RUN) from error


def explain(error: Exception) -> str:
    """One line that says what went wrong and, where we know it, what to do."""
    if isinstance(error, PantskitError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("pantskit"):
        return f"{error.name} is not installed; install it with: pip install 'pantskit[all]'"
    if isinstance(error, OSError) and error.strerror:
        from pantskit.core.files import explain_os_error

        return explain_os_error(error)
    what = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {what} (`pantskit --traceback COMMAND ...` shows where)"


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _load(name: str) -> TyperCommand:
    """The click command of `pantskit.cli.<name>`."""
    file = f"{name}_" if keyword.iskeyword(name) else name
    module = importlib.import_module(f"pantskit.cli.{file}")
    help_text = inspect.getdoc(module.command) or ""
    line = help_text.partition("\n")[0].rstrip(".")
    single = _app()
    single.command(name, help=_keep_examples(help_text), short_help=line)(module.command)
    command = typer.main.get_command(single)
    assert isinstance(command, TyperCommand)
    return command


def _keep_examples(text: str) -> str:
    r"""Mark paragraphs with indented lines by `\b`, so that help prints them as they are."""
    return "\n\n".join(
        "\b\n" + part if "\n " in "\n" + part else part for part in text.split("\n\n")
    )


def _app(**settings: Any) -> typer.Typer:
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: `[all]` is no markup, and reads well in a pipe
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


app = _app(cls=CommandGroup, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pantskit {__version__}")
        raise typer.Exit


@app.callback()
def _pantskit(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="When a command fails, show where in the code.")
    ] = False,
) -> None:
    """Pancreatic-tumour CT from the scanner to a scored segmentation.

    Exit status: 0 all done; 1 done, but some cases failed or were quarantined; 2 could not run.
    """


def main() -> None:
    """Run the command line."""
    app(prog_name="pantskit")
