//! The `hopcast` command: one file in, a mesh that plays out.

mod cli;
mod commands;
mod context;
mod exit;
mod graph;
mod hops;
mod http;
mod interrupt;
mod location;
mod output;
mod player;
mod progress;
mod ways;

use std::process::ExitCode;

use clap::{Parser as _, error::ErrorKind};

use crate::{
    cli::{Cli, Command},
    context::Context,
    output::Output,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(usage(&error)),
    };
    let out = Output::new(cli.global.json);
    output::log_to_stderr(cli.global.verbose, matches!(cli.command, Command::Keeper(_)));
    // One thread is enough: what is slow here waits for other processes.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            out.failure(&anyhow::Error::new(error).context("cannot start the runtime"));
            return ExitCode::from(exit::FAILED);
        }
    };
    let mut context = Context::new(out);
    let code = match runtime.block_on(cli::run(&mut context, cli.global, cli.command)) {
        Ok(code) => match context.out.lost() {
            Some(error) if code == exit::OK => {
                context.out.note(format_args!("error: cannot write to stdout: {error}"));
                exit::CANNOT_WRITE
            }
            _ => code,
        },
        Err(error) => {
            context.out.failure(&error);
            exit::code(&error)
        }
    };
    // A task that blocks on something that never comes must not hold the end up.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// clap's own text; with `--json` an object on stdout beside it.
fn usage(error: &clap::Error) -> u8 {
    let help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::DisplayVersion
    );
    // A reader that is gone has seen enough.
    let _ = error.print();
    if !help && std::env::args_os().any(|argument| argument == "--json") {
        let message = error.render().to_string();
        Output::new(true).object(&serde_json::json!({
            "error": { "code": exit::USAGE, "message": message.trim_end() }
        }));
    }
    error.exit_code().try_into().unwrap_or(exit::USAGE)
}
