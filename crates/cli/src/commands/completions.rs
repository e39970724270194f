//! `hopcast completions`: what a shell needs to complete the commands.

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::Shell;
use serde::Serialize;

use crate::{cli::Cli, output::Output};

/// The shells.
#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// `source <(hopcast completions bash)`
    Bash,
    /// `hopcast completions zsh >"${fpath[1]}/_hopcast"`
    Zsh,
    /// `hopcast completions fish >~/.config/fish/completions/hopcast.fish`
    Fish,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which shell
    shell: Kind,
}

#[derive(Serialize)]
struct Answer {
    shell: Kind,
    script: String,
}

pub(crate) fn run(out: &Output, arguments: &Arguments) -> anyhow::Result<()> {
    let shell = match arguments.shell {
        Kind::Bash => Shell::Bash,
        Kind::Zsh => Shell::Zsh,
        Kind::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(), "hopcast", &mut script);
    let script = String::from_utf8(script)?;
    if out.is_json() {
        return out.result(&Answer { shell: arguments.shell, script });
    }
    out.text(script);
    Ok(())
}

/// The command line without what is hidden; the generator for zsh lists that, too.
fn visible() -> clap::Command {
    let whole = Cli::command();
    clap::Command::new("hopcast")
        .disable_help_subcommand(true)
        .args(whole.get_arguments().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}
