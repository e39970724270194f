//! Whom a fetch asks next, and when it is certain that nobody has the content.
//!
//! Pure. A way that fails is gone around: most failures are reported to the server by the hop that saw them, and where it still
//! gives the same way, the relay that said so is avoided, then the holder. What a lie leads to: once from zero without that holder, then from a gateway; and both times over a way around
//! the relays of the wrong one, where there is one, since from here nobody can tell a lying relay from a lying holder.
//! Where the server knows no such way, less and less is asked for, and in the end everybody gets another chance.

use hopcast_protocol::PeerName;

/// Failures over one holder after which another one is tried.
const STRIKES: u32 = 2;
/// Gateways whose word that a song does not exist is taken: each has looked into the origin, too, and asking all of them
/// would hold up whoever asks.
const DENIALS: usize = 2;
/// Lies after which only gateways are asked.
const LIES: u32 = 2;

/// Which way the server is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Only a gateway will do.
    pub gateway: bool,
    /// Holders that are not wanted; the liars first, since the server takes a bounded list.
    pub exclude: Vec<PeerName>,
    /// Peers that are not even wanted as hops.
    pub avoid: Vec<PeerName>,
}

/// What follows when the server knows no way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nobody {
    /// Whoever could have it said no: it does not exist.
    Denied,
    /// Less is asked for now: ask at once.
    AskAgain,
    /// Everybody may be asked again, but not at once.
    Later,
}

/// How much is asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// Another holder, and other relays.
    #[default]
    Both,
    /// Another holder, over whatever way.
    Holder,
    /// Other relays, to whatever holder: it may have been one of them who lied.
    Relays,
}

/// A failure, and how often it came in a row.
#[derive(Debug, PartialEq)]
struct Failed {
    holder: PeerName,
    by: Option<PeerName>,
    strikes: u32,
}

/// What a fetch has learnt.
#[derive(Debug, Default)]
pub struct Search {
    not_held: Vec<PeerName>,
    unable: Vec<PeerName>,
    liars: Vec<PeerName>,
    // Relays of ways over which wrong bytes came, and those that failed and said so again and again.
    suspects: Vec<PeerName>,
    lies: u32,
    demand: Demand,
    last: Option<Failed>,
    missing_here: bool,
}

impl Search {
    /// What to ask the server for.
    pub fn ask(&self) -> Ask {
        let liars = if self.demand == Demand::Relays { &[][..] } else { &self.liars };
        let suspects = if self.demand == Demand::Holder { &[][..] } else { &self.suspects };
        Ask {
            gateway: self.lies >= LIES,
            exclude: liars.iter().chain(&self.not_held).chain(&self.unable).cloned().collect(),
            avoid: suspects.to_vec(),
        }
    }

    /// This peer's own database does not have it.
    pub fn missing_here(&mut self) {
        self.missing_here = true;
    }

    /// The holder does not have it.
    pub fn not_held(&mut self, holder: &PeerName) {
        add(&mut self.not_held, holder);
    }

    /// So many gateways do not know a song that it does not exist.
    pub fn denied(&self) -> bool {
        self.not_held.len() + usize::from(self.missing_here) >= DENIALS
    }

    /// The holder itself cannot serve now.
    pub fn unable(&mut self, holder: &PeerName) {
        add(&mut self.unable, holder);
    }

    /// What came was not what it should be. `way` is the path, requester first, holder last.
    pub fn lied(&mut self, way: &[PeerName]) {
        let Some((holder, before)) = way.split_last() else { return };
        add(&mut self.liars, holder);
        for relay in before.iter().skip(1) {
            add(&mut self.suspects, relay);
        }
        self.lies += 1;
        self.demand = Demand::Both;
    }

    /// Something on the way failed; `by` is the relay that cannot go on, where that is known. The hop that saw it has mostly
    /// reported it, so the next way avoids it. Where the same holder fails again, another one is tried; but where the same
    /// relay said so both times, first a way around it.
    pub fn failed(&mut self, holder: &PeerName, by: Option<&PeerName>) {
        let last = self.last.take().filter(|last| last.holder == *holder);
        let strikes = last.as_ref().map_or(1, |last| last.strikes + 1);
        if strikes < STRIKES {
            self.last = Some(Failed { holder: holder.clone(), by: by.cloned(), strikes });
        } else {
            let again = last.is_some_and(|last| last.by.as_ref() == by);
            match by.filter(|by| again && *by != holder && !self.suspects.contains(by)) {
                Some(relay) => {
                    add(&mut self.suspects, relay);
                    self.demand = Demand::Both;
                }
                None => self.unable(holder),
            }
        }
    }

    /// The server knows no way such as [`Search::ask`] wants.
    pub fn nobody(&mut self) -> Nobody {
        let said_no = !self.not_held.is_empty() || self.missing_here;
        let denied = said_no && self.unable.is_empty() && self.liars.is_empty();
        if !self.suspects.is_empty() {
            let less = match self.demand {
                Demand::Both => Some(Demand::Holder),
                Demand::Holder => Some(Demand::Relays),
                Demand::Relays => None,
            };
            if let Some(less) = less {
                self.demand = less;
                return Nobody::AskAgain;
            }
        }
        *self = Self { missing_here: self.missing_here, ..Self::default() };
        if denied { Nobody::Denied } else { Nobody::Later }
    }
}

fn add(list: &mut Vec<PeerName>, peer: &PeerName) {
    if !list.contains(peer) {
        list.push(peer.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> PeerName {
        PeerName::new(format!("peer-{number}")).unwrap()
    }

    fn peers(numbers: &[u32]) -> Vec<PeerName> {
        numbers.iter().copied().map(peer).collect()
    }

    fn ask(gateway: bool, exclude: &[u32], avoid: &[u32]) -> Ask {
        Ask { gateway, exclude: peers(exclude), avoid: peers(avoid) }
    }

    #[test]
    fn it_does_not_exist_only_if_all_said_so() {
        let mut search = Search::default();
        assert_eq!(search.nobody(), Nobody::Later, "nobody said anything: perhaps no gateway is connected");
        search.not_held(&peer(1));
        search.not_held(&peer(1));
        assert_eq!(search.ask(), ask(false, &[1], &[]));
        assert_eq!(search.nobody(), Nobody::Denied);
        search.unable(&peer(2));
        assert_eq!(search.nobody(), Nobody::Later);
        assert_eq!(search.ask(), ask(false, &[], &[]), "everybody gets another chance");
    }

    #[test]
    fn a_lie_leads_to_another_holder_and_a_second_one_to_a_gateway() {
        let mut search = Search::default();
        search.not_held(&peer(3));
        search.lied(&peers(&[9, 8, 7]));
        assert_eq!(search.ask(), ask(false, &[7, 3], &[8]), "once without that holder, around the relays");
        search.lied(&peers(&[9, 6, 5]));
        assert_eq!(search.ask(), ask(true, &[7, 5, 3], &[8, 6]), "then from a gateway");
        // The gateway lied as well: another one.
        search.lied(&peers(&[9, 1]));
        assert_eq!(search.ask(), ask(true, &[7, 5, 1, 3], &[8, 6]));
    }

    #[test]
    fn where_there_is_no_such_way_less_is_asked_for_until_everybody_gets_another_chance() {
        let mut search = Search::default();
        search.not_held(&peer(3));
        search.lied(&peers(&[9, 8, 7]));
        assert_eq!(search.nobody(), Nobody::AskAgain, "a lie is no proof that it does not exist");
        assert_eq!(search.ask(), ask(false, &[7, 3], &[]), "over the same relays");
        assert_eq!(search.nobody(), Nobody::AskAgain);
        assert_eq!(search.ask(), ask(false, &[3], &[8]), "the same holder, over others");
        assert_eq!(search.nobody(), Nobody::Later);
        assert_eq!(search.ask(), ask(false, &[], &[]));
        // A holder beside this peer: no relay can be to blame.
        search.lied(&peers(&[9, 7]));
        assert_eq!(search.nobody(), Nobody::Later);
    }

    #[test]
    fn two_failures_in_a_row_turn_to_another_holder() {
        let mut search = Search::default();
        search.failed(&peer(1), None);
        search.failed(&peer(2), None);
        search.failed(&peer(1), None);
        assert_eq!(search.ask(), ask(false, &[], &[]));
        search.failed(&peer(1), None);
        assert_eq!(search.ask(), ask(false, &[1], &[]));
    }

    #[test]
    fn where_a_relay_says_so_the_way_around_it_is_tried_before_another_holder() {
        let mut search = Search::default();
        for avoided in [&[][..], &[8]] {
            search.failed(&peer(1), Some(&peer(8)));
            assert_eq!(search.ask(), ask(false, &[], avoided));
        }
        // There is no such way: the same one again, and it fails again.
        assert_eq!(search.nobody(), Nobody::AskAgain);
        assert_eq!(search.ask(), ask(false, &[], &[]));
        search.failed(&peer(1), Some(&peer(8)));
        search.failed(&peer(1), Some(&peer(8)));
        assert_eq!(search.ask(), ask(false, &[1], &[]), "another holder");
        assert_eq!(search.nobody(), Nobody::AskAgain);
        assert_eq!(search.nobody(), Nobody::Later);
        assert_eq!(search.ask(), ask(false, &[], &[]), "everybody gets another chance");
        // A dead holder: each relay beside it says so of itself.
        search.failed(&peer(1), Some(&peer(7)));
        search.failed(&peer(1), Some(&peer(8)));
        assert_eq!(search.ask(), ask(false, &[1], &[]), "another holder at once");
        assert_eq!(search.nobody(), Nobody::Later);
        // Of a holder's own word no relay is to blame.
        search.failed(&peer(1), Some(&peer(1)));
        search.failed(&peer(1), Some(&peer(1)));
        assert_eq!(search.ask(), ask(false, &[1], &[]));
    }

    #[test]
    fn two_gateways_word_is_enough() {
        let mut search = Search::default();
        search.not_held(&peer(1));
        search.not_held(&peer(1));
        assert!(!search.denied());
        search.missing_here();
        assert!(search.denied());
    }
}
