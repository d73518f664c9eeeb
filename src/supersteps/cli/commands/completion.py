"""`supersteps completion`."""

from __future__ import annotations

import click

from supersteps.cli.terminal import echo

# Bash splits words at `:`, `@` and `=`, as in sqlite:///runs.db and RUN@7, and replaces only the
# text after the last of them. So this joins the words again and offers only that last part.
_BASH = r"""%(complete_func)s() {
    local IFS=$'\n' rest=${COMP_LINE:0:COMP_POINT} gap word words=() i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        gap=${rest%%%%[![:space:]]*}
        rest=${rest#"$gap"}
        word=${COMP_WORDS[i]}
        [[ ${rest:0:${#word}} == "$word" ]] || word=$rest
        rest=${rest#"$word"}
        if ((i == 0)) || [[ -n $gap ]]; then words+=("$word"); else words[${#words[@]}-1]+=$word; fi
    done
    local last=${words[${#words[@]}-1]} kept=
    [[ $last == *[:@=]* ]] && kept=${last%%"${last##*[:@=]}"}
    local reply type value
    reply=$(
        env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \
            %(complete_var)s=bash_complete "$1"
    )
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$kept"}") ;;
        esac
    done <<< "$reply"
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the shell script that enables Tab completion.

    Install it once, then start a new shell:

    \b
    bash  supersteps completion bash >> ~/.bashrc
    zsh   supersteps completion zsh >> ~/.zshrc
    fish  supersteps completion fish > ~/.config/fish/completions/supersteps.fish
    """  # noqa: D301 - \b tells click to keep the line breaks
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - click knows these three
        raise click.UsageError(f"no completion for {shell}: choose bash, zsh or fish")
    if shell == "bash":
        kind = type("Bash", (kind,), {"source_template": _BASH})
    root = click.get_current_context().find_root()
    echo(kind(root.command, {}, "supersteps", "_SUPERSTEPS_COMPLETE").source())
