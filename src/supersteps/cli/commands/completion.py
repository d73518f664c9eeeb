"""`supersteps completion`."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what makes a shell complete commands and options.

    Install it once, then open a new shell:

    \b
    bash  supersteps completion bash >> ~/.bashrc
    zsh   supersteps completion zsh >> ~/.zshrc
    fish  supersteps completion fish > ~/.config/fish/completions/supersteps.fish
    """  # noqa: D301 - \b is how click is told to leave lines as they are
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - click knows these three
        raise click.UsageError(f"nothing is known of {shell}")
    root = click.get_current_context().find_root()
    click.echo(kind(root.command, {}, "supersteps", "_SUPERSTEPS_COMPLETE").source())
