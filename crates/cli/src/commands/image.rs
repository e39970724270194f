//! `hopcast image`: the images of the Docker backend, made, moved to another machine and taken from one.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hopcast_deploy::docker::{
    engine::Engine,
    image::{self, Images, Origin},
};

use crate::{
    context::Context,
    exit::{self, Failure},
    output::{bytes, count, table},
    progress::Progress,
};

/// Arguments of `image`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

/// What to do with the images.
#[derive(Debug, Subcommand)]
enum What {
    /// Make the images that are missing or out of date; `up` does it by itself
    Build,
    /// Write all three to a file, for another machine; makes those that are missing first
    Save {
        /// The file: what `docker load` takes, too
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Take the images of a file that `image save` or `docker save` wrote
    Load {
        /// The file
        file: PathBuf,
    },
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        What::Build => {
            let (_, images) = built(context).await?;
            show(context, &images);
            context.out.result(&images)
        }
        What::Save { output } => {
            let (engine, images) = built(context).await?;
            show(context, &images);
            let progress = Progress::new();
            progress.begin("writing the images");
            let length = image::save(&engine, &images, output).await.map_err(|error| match error {
                hopcast_deploy::Error::File { .. } => {
                    Failure::new(exit::CANNOT_WRITE, error.to_string()).into()
                }
                other => anyhow::Error::new(other),
            })?;
            drop(progress);
            let file = output.display();
            context
                .out
                .line(format_args!("{} in {file}: `hopcast image load {file}` takes them", bytes(length)));
            context.out.result(&serde_json::json!({ "file": output, "bytes": length, "images": images }))
        }
        What::Load { file } => {
            if !file.is_file() {
                let message =
                    format!("there is no file {}: `hopcast image save -o FILE` writes one", file.display());
                return Err(Failure::new(exit::NO_INPUT, message).into());
            }
            let engine = Engine::connect().await?;
            let progress = Progress::new();
            progress.begin("reading the images");
            let loaded = image::load(&engine, file).await?;
            drop(progress);
            for name in &loaded {
                context.out.line(name);
            }
            context.out.line(format_args!("{} loaded", count(loaded.len(), "image")));
            context.out.result(&serde_json::json!({ "loaded": loaded }))
        }
    }
}

/// The engine, and the file's images on it.
async fn built(context: &Context) -> anyhow::Result<(Engine, Images)> {
    let plan = context.plan()?;
    let engine = Engine::connect().await?;
    let progress = Progress::new();
    let images = image::ensure(&engine, &plan, &progress).await?;
    Ok((engine, images))
}

fn show(context: &Context, images: &Images) {
    let rows = images.all().map(|image| {
        let origin = match image.origin {
            Origin::Present => "was there",
            Origin::Built => "made",
            Origin::Pulled => "pulled",
            Origin::Missing => "missing",
        };
        let id = image.id.trim_start_matches("sha256:").get(..12).unwrap_or_default().to_owned();
        [image.role.as_str().to_owned(), image.name.clone(), id, bytes(image.bytes), origin.to_owned()]
    });
    context.out.human(table(&rows));
}
