//! A database's access rules, tried with the right passwords from the wrong places.
//!
//! Where all share one network, the rules alone keep strangers out, so every kind of stranger is tried. Where processes have
//! networks of their own, strangers don't get as far ([`super::networks`]); the rules still decide for the database's own
//! gateways and for who is on the machine itself.

use crate::{
    context::Context,
    database::{self, Closed, GATEWAY, READER, REPL},
    place::Place,
    target::{DatabaseRole, DatabaseTarget, Separation},
};

use super::{FROM, some};

/// How often a server that has no connection to give is asked again.
const BUSY: usize = 10;

/// One attempt to get in.
pub(super) struct Attempt<'a> {
    database: &'a DatabaseTarget,
    role: &'a str,
    password: Option<String>,
    from: Place,
    who: String,
}

/// All that is tried.
pub(super) fn attempts<'a>(context: &Context<'a>, databases: &[&'a DatabaseTarget]) -> Vec<Attempt<'a>> {
    let (target, owner) = (context.target, context.target.plan.postgres.user.as_str());
    let apart = target.separation == Separation::Namespaces;
    let mut attempts = Vec::new();
    for &database in databases {
        let name = database.name.as_str();
        let password = |role: &str| Some(target.secret.password(name, role));
        let edge = database.role == DatabaseRole::Edge;
        // The owner's password is not known here, and need not be: the rules come first.
        let mut roles = vec![(GATEWAY, password(GATEWAY)), (owner, None)];
        if !edge {
            roles.extend([(READER, password(READER)), (REPL, password(REPL))]);
        }
        let mut add = |who: &str, from: Place, role: &'a str, password: Option<String>| {
            attempts.push(Attempt { database, role, password, from, who: who.to_string() });
        };
        if apart {
            // The engine's machine has a foot in every network: no role comes in from there, the owner's neither.
            for (role, password) in &roles {
                add("nobody", Place::Here, role, password.clone());
            }
        } else {
            for (who, from) in super::outsiders(context, database) {
                for (role, password) in &roles {
                    add(who.as_str(), from, role, password.clone());
                }
            }
            // Whoever does not bind to a peer's address comes from here. The owner may.
            if edge {
                add("nobody", Place::Here, GATEWAY, password(GATEWAY));
            }
        }
        // Its own gateways may come as gateways only.
        if edge {
            for (who, from) in some(context, FROM, |peer| peer.edges.contains(&database.name)) {
                add(who.as_str(), from, owner, None);
            }
        }
    }
    attempts
}

/// Refused means: by the rules.
pub(super) async fn try_in(context: &Context<'_>, attempt: Attempt<'_>) -> Result<(), String> {
    let Attempt { database, role, password, from, who } = attempt;
    let what = format!("{} as {role} from {who}'s place {from}", database.name);
    let mut tried = database::open(database, role, password.as_deref(), from).await;
    for _ in 0..BUSY {
        if !matches!(tried, Err(Closed::Busy(_))) {
            break;
        }
        context.pause().await;
        tried = database::open(database, role, password.as_deref(), from).await;
    }
    match tried {
        Ok(_) => Err(format!("{what}: let in")),
        Err(Closed::Rules(_)) => Ok(()),
        Err(Closed::Password(text)) => Err(format!("{what}: only a password was missing: {text}")),
        Err(Closed::Unreachable(text) | Closed::Busy(text) | Closed::Other(text)) => {
            Err(format!("{what}: no refusal, but {text}"))
        }
    }
}
