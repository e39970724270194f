//! The command line: what clap parses, and which module does it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    commands::{
        bench, check, completions, doctor, down, fetch, generate, graph, healthy, image, init, keeper, logs,
        path, pipe, plan, populate, probe, schema, songs, status, up, verify,
    },
    context::Context,
    exit,
};

/// Peer-assisted song delivery that one file describes.
///
/// topology.toml names the peers, the rooms, the links, the edge databases and the songs; hopcast starts the mesh, lets
/// any HLS player listen at any peer, and proves that every byte came hop by hop over links of the file.
#[derive(Debug, Parser)]
#[command(name = "hopcast", version, after_help = exit::HELP, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    #[command(flatten)]
    file: File,
    /// One JSON object as the last line of stdout; everything else goes to stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Tell more on stderr; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The topology file, before the command or after it.
#[derive(Debug, Args)]
pub(crate) struct File {
    /// The topology file [default: topology.toml here or in the nearest directory above]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// A command that reads the file, or asks it for the mesh's name.
///
/// This is no global argument of clap's, because `logs -f` means something else.
#[derive(Debug, Args)]
pub(crate) struct With<T: Args> {
    #[command(flatten)]
    file: File,
    #[command(flatten)]
    rest: T,
}

impl<T: Args> With<T> {
    /// The command's own arguments; the file goes to the context.
    fn rest(self, context: &mut Context) -> T {
        context.set_file(self.file.file);
        self.rest
    }
}

/// The arguments of a command without any.
#[derive(Debug, Args)]
pub(crate) struct Nothing {}

/// The commands, in the order in which one meets them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented topology.toml
    Init(init::Arguments),
    /// Check the file; all errors at once, each with its place
    Check(With<check::Arguments>),
    /// Print what the file means; --json: the whole plan
    Plan(With<Nothing>),
    /// Print the JSON Schema of the file, for editors
    Schema,
    /// Start the mesh, or change the running one to what the file says now
    Up(With<up::Arguments>),
    /// Stop the mesh
    Down(With<down::Arguments>),
    /// Show what runs, and whether all is well
    Status(With<status::Arguments>),
    /// Show the logs of the mesh's processes
    Logs(logs::Arguments),
    /// Draw the mesh as DOT, SVG or PNG
    Graph(With<graph::Arguments>),
    /// Explain the way between two peers, room by room
    Path(With<path::Arguments>),
    /// Store a song: an audio file or an HLS folder
    Ingest(With<songs::IngestArguments>),
    /// List the songs that are stored
    Songs(With<songs::ListArguments>),
    /// Remove a song from every database
    Rm(With<songs::RemoveArguments>),
    /// Get a song or a segment through a peer, with each hop's time
    Fetch(With<fetch::Arguments>),
    /// Test the running mesh from outside; 0 only if every check ran and held
    Verify(With<verify::Arguments>),
    /// Look for what this machine lacks
    Doctor(With<doctor::Arguments>),
    /// Make, save and load the images of the Docker backend
    Image(With<image::Arguments>),
    /// Make NixOS modules, files and keys of the file
    Generate(generate::Arguments),
    /// Set up the databases of NixOS hosts and store the songs; their unit does it
    Populate(With<populate::Arguments>),
    /// Measure hopcast beside what it is compared with
    Bench(With<bench::Arguments>),
    /// Print the completions of a shell
    Completions(completions::Arguments),
    /// Keeps the processes of a mesh; `up` starts it
    #[command(hide = true)]
    Keeper(keeper::Arguments),
    /// Leads to the databases of a Docker mesh, from inside it; who needs them starts it
    #[command(hide = true)]
    Pipe(pipe::Arguments),
    /// Says whether a signalling server answers; the engine starts it
    #[command(hide = true)]
    Healthy(healthy::Arguments),
    /// Tests a Docker mesh from inside the engine; `verify` starts it
    #[command(hide = true)]
    Probe,
}

/// Does what was asked for; the code that the program ends with.
pub(crate) async fn run(context: &mut Context, global: Global, command: Command) -> anyhow::Result<u8> {
    let done = |()| exit::OK;
    context.set_file(global.file.file);
    macro_rules! call {
        ($command:path, $with:ident $(, $later:tt)?) => {{
            let arguments = $with.rest(context);
            $command(context, &arguments)$(.$later)?
        }};
    }
    match command {
        Command::Init(arguments) => init::run(&context.out, &arguments).map(done),
        Command::Check(with) => call!(check::run, with).map(done),
        Command::Plan(with) => {
            let Nothing {} = with.rest(context);
            plan::run(context).map(done)
        }
        Command::Schema => schema::run(&context.out).map(done),
        Command::Up(with) => call!(up::run, with, await),
        Command::Down(with) => call!(down::run, with, await).map(done),
        Command::Status(with) => call!(status::run, with, await),
        Command::Logs(arguments) => {
            context.set_file(arguments.file.clone());
            logs::run(context, &arguments).await
        }
        Command::Graph(with) => call!(graph::run, with, await).map(done),
        Command::Path(with) => call!(path::run, with, await),
        Command::Ingest(with) => call!(songs::ingest, with, await).map(done),
        Command::Songs(with) => call!(songs::list, with, await).map(done),
        Command::Rm(with) => call!(songs::remove, with, await).map(done),
        Command::Fetch(with) => call!(fetch::run, with, await).map(done),
        Command::Verify(with) => call!(verify::run, with, await),
        Command::Doctor(with) => call!(doctor::run, with, await),
        Command::Image(with) => call!(image::run, with, await).map(done),
        Command::Generate(arguments) => generate::run(context, &arguments).map(done),
        Command::Populate(with) => call!(populate::run, with, await).map(done),
        Command::Bench(with) => call!(bench::run, with).map(done),
        Command::Completions(arguments) => completions::run(&context.out, &arguments).map(done),
        Command::Keeper(arguments) => keeper::run(arguments).await.map(done),
        Command::Pipe(arguments) => pipe::run(arguments).await.map(done),
        Command::Healthy(arguments) => healthy::run(&arguments).await.map(done),
        Command::Probe => probe::run().await.map(done),
    }
}
