//! What a Docker engine and this machine lack for a mesh, each with what to do about it. Looks only; every request has a
//! deadline.

mod engine;
mod machine;
pub mod memory;
mod network;

use hopcast_protocol::MeshSecret;
use hopcast_topology::Plan;

use super::{
    Docker, Engine, apply, checks,
    image::{self, Images, Origin},
    present::Present,
    wanted,
};
pub use memory::Memory;

use crate::{Error, Finding, error::Doing as _, programs::Programs};

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// One for each look.
    pub findings: Vec<Finding>,
    /// What the plan's mesh will take of this machine's memory.
    pub memory: Option<Memory>,
}

/// Looks at the engine, and at what it lacks for this plan where there is one.
pub async fn look(docker: &Docker, plan: Option<&Plan>) -> Report {
    let mut report = Report { findings: Vec::new(), memory: None };
    let engine = match docker.engine().await {
        Ok(engine) => engine,
        Err(error) => {
            report.findings.push(Finding::missing("docker engine", engine::unreachable(&error)));
            report.memory = plan.map(|plan| memory::predict(plan, ""));
            return report;
        }
    };
    let facts = match engine::Facts::read(engine).await {
        Ok(facts) => facts,
        Err(error) => {
            report.findings.push(Finding::missing("docker engine", error.to_string()));
            return report;
        }
    };
    report.findings.extend(facts.findings(engine));
    let Some(plan) = plan else { return report };
    match of_plan(engine, &facts, plan).await {
        Ok((findings, memory)) => {
            report.findings.extend(findings);
            report.memory = Some(memory);
        }
        Err(error) => report.findings.push(Finding::missing("engine's lists", error.to_string())),
    }
    report
}

/// What this plan needs.
async fn of_plan(
    engine: &Engine,
    facts: &engine::Facts,
    plan: &Plan,
) -> Result<(Vec<Finding>, Memory), Error> {
    let present = Present::read(engine).await?;
    let routes =
        checks::routes(&std::fs::read_to_string("/proc/net/route").doing("read", "/proc/net/route")?);
    let there = present.has(&plan.mesh);
    let shape = wanted::wanted(plan, &MeshSecret([0; 32]), "", &apply::names_alone(plan));
    let memory = memory::predict(plan, &facts.driver);
    let data = image::data::of(engine, &present, &plan.mesh).await?;
    let mut findings = vec![
        images(image::find_for(engine, plan, Programs::find(), &data).await, plan),
        Finding::of("names", checks::names(&shape, &present), |()| {
            format!(
                "those of {} containers and {} networks are free",
                shape.nodes.len(),
                shape.networks.len()
            )
        }),
        network::subnets(&shape.networks, &plan.mesh, &present, &routes, &facts.pools),
        network::bridges(&shape),
        network::neighbours(plan, there),
        Finding::of("published ports", checks::ports(&shape, &present), |()| {
            let ports: Vec<_> = shape
                .nodes
                .iter()
                .flat_map(|node| &node.container.ports)
                .map(|(at, _)| at.to_string())
                .collect();
            format!("{} are free, or this mesh's own", ports.join(" and "))
        }),
    ];
    findings.extend(machine::look(plan, facts, &memory, there));
    Ok((findings, memory))
}

/// Which images are there, and how the others will come.
fn images(found: Result<Images, Error>, plan: &Plan) -> Finding {
    const WHAT: &str = "images";
    let images = match found {
        Ok(images) => images,
        Err(error) => {
            return Finding::missing(
                WHAT,
                format!(
                    "{error}; images of another machine will do as well: `hopcast image save` there, `hopcast image load` here"
                ),
            );
        }
    };
    let text = images.all().map(|image| {
        let size = format!("{:.1} MB", image.bytes as f64 / 1e6);
        match (image.origin, image.role) {
            (Origin::Missing, image::ImageRole::Postgres) => format!(
                "{} will be pulled where a registry answers, else {} is made from this machine's PostgreSQL",
                plan.docker.postgres_image, image.name
            ),
            (Origin::Missing, _) => format!("{} will be made from this machine's programs", image.name),
            _ => format!("{} is there ({size})", image.name),
        }
    });
    Finding::ok(WHAT, text.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Verdict, fixture::plan};

    #[tokio::test]
    async fn an_engine_that_is_not_there_or_does_not_answer_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let host = format!("unix://{}", socket.display());
        let absent = Engine::at(&host).await.unwrap_err();
        assert!(engine::unreachable(&absent).contains("systemctl start docker"), "{absent}");
        // One that takes a connection and never answers.
        let _mute = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let mute = Engine::at(&host).await.unwrap_err();
        assert!(engine::unreachable(&mute).contains("within"), "{mute}");
    }

    #[test]
    fn without_a_program_an_image_is_missing_and_another_machine_may_have_it() {
        let plan = plan();
        let found = images(Err(Error::Missing("hopcast-peer is not there".into())), &plan);
        assert_eq!(found.verdict, Verdict::Missing);
        assert!(found.detail.contains("hopcast-peer") && found.detail.contains("image load"), "{found:?}");
        let found = images(Ok(apply::names_alone(&plan)), &plan);
        assert!(found.verdict == Verdict::Ok && found.detail.contains("will be made"), "{found:?}");
    }
}
